//! Links MLX, generates the bindings to mlx-c and the C header.
//!
//! macOS: crate `mlx-sys` builds and links everything; only the header is made here.
//! Linux: `mlx-sys` does not build, but carries mlx-c's C++ sources. They are compiled here against
//! MLX's own Linux build, which is `$MLX_ROOT` or else fetched from PyPI by `tools/fetch-mlx.sh`.

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap());
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    generate_header(&root, &out);
    println!("cargo:rustc-env=MLXRT_TARGET={}", env::var("TARGET").unwrap());
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") {
        println!("cargo:rustc-env=MLXRT_MLX=mlx-sys 0.6.0");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libmlxrt.dylib");
        return;
    }
    let mlx = mlx_root(&root, &out);
    let made = compiled_once(&root, &out, &mlx, &mlx_c_sources());
    println!("cargo:rustc-env=MLXRT_MLX_C={}", made.join("mlx_c.rs").display());
    println!("cargo:rustc-link-search=native={}", made.display());
    println!("cargo:rustc-link-lib=static=mlxc");
    link(&out, &mlx);
}

fn modified(file: &Path) -> std::time::SystemTime {
    std::fs::metadata(file).and_then(|meta| meta.modified()).expect("a file that exists")
}

/// The folder with `include/` and `lib/libmlx.so`.
fn mlx_root(root: &Path, out: &Path) -> PathBuf {
    println!("cargo:rerun-if-env-changed=MLX_ROOT");
    println!("cargo:rerun-if-changed=tools/fetch-mlx.sh");
    println!("cargo:rerun-if-changed=tools/wheels.txt");
    let mlx = match env::var_os("MLX_ROOT").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => {
            let variant = if env::var_os("CARGO_FEATURE_CUDA").is_some() { "cuda" } else { "cpu" };
            let dest = target_dir(out).join("mlx").join(variant);
            fetch(root, variant, &dest);
            dest.join("mlx")
        }
    };
    let library = mlx.join("lib/libmlx.so");
    assert!(
        library.exists() && mlx.join("include/mlx/mlx.h").exists(),
        "no MLX at {}: expected lib/libmlx.so and include/mlx/mlx.h (from MLX_ROOT, if it is set)",
        mlx.display()
    );
    println!("cargo:rerun-if-changed={}", library.display());
    println!("cargo:rustc-env=MLXRT_MLX=mlx {}", version(&mlx.join("include/mlx/version.h")));
    mlx
}

/// Cargo's target folder: OUT_DIR is `<target>/<profile>/build/<package>/out`.
fn target_dir(out: &Path) -> PathBuf {
    out.ancestors().nth(4).expect("OUT_DIR lies in the target folder").to_path_buf()
}

fn fetch(root: &Path, variant: &str, dest: &Path) {
    let script = root.join("tools/fetch-mlx.sh");
    let mut command = Command::new("sh");
    command.arg(&script).arg(variant).arg(dest);
    // libclang runs here, MLX where the library will.
    if variant != "libclang" && env::var("TARGET") != env::var("HOST") {
        let compiler = cc::Build::new().cargo_metadata(false).get_compiler();
        command.arg(env::var("CARGO_CFG_TARGET_ARCH").unwrap()).env("CC", compiler.path());
    }
    let status = command.status();
    assert!(
        status.is_ok_and(|s| s.success()),
        "{} {variant} failed (its message is above); MLX_ROOT names an MLX of your own",
        script.display()
    );
}

fn version(header: &Path) -> String {
    let text = std::fs::read_to_string(header).unwrap_or_default();
    let part = |name: &str| {
        let line = text.lines().find(|l| l.contains(name) && l.starts_with("#define"));
        line.and_then(|l| l.split_whitespace().nth(2)).unwrap_or("?").to_string()
    };
    ["MLX_VERSION_MAJOR", "MLX_VERSION_MINOR", "MLX_VERSION_PATCH"].map(part).join(".")
}

/// `src/mlx-c` in the downloaded sources of crate `mlx-sys`.
fn mlx_c_sources() -> PathBuf {
    let output = Command::new(env::var_os("CARGO").unwrap())
        .args(["metadata", "--format-version=1", "--locked"])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let manifest = metadata["packages"]
        .as_array()
        .and_then(|all| all.iter().find(|p| p["name"] == "mlx-sys"))
        .and_then(|package| package["manifest_path"].as_str())
        .expect("mlx-sys is in Cargo.lock");
    Path::new(manifest).with_file_name("src").join("mlx-c")
}

/// The folder with mlx-c and its bindings. It takes a minute to make, so it is made once for all that
/// Cargo builds in one target folder: clippy, other features, a change of src/ffi.
fn compiled_once(root: &Path, out: &Path, mlx: &Path, mlx_c: &Path) -> PathBuf {
    let mut made_from = DefaultHasher::new();
    println!("cargo:rerun-if-changed=src/mlx/mapped.cpp");
    println!("cargo:rerun-if-changed=src/mlx/primitive.cpp");
    (
        include_str!("build.rs"),
        include_str!("src/mlx/mapped.cpp"),
        include_str!("src/mlx/primitive.cpp"),
        mlx,
        mlx_c,
        modified(&mlx.join("lib/libmlx.so")),
    )
        .hash(&mut made_from);
    (env::var("TARGET").unwrap(), env::var("OPT_LEVEL").unwrap()).hash(&mut made_from);
    let made = target_dir(out).join("mlx").join(format!("c-{:016x}", made_from.finish()));
    if !made.exists() {
        compile_mlx_c(mlx, mlx_c);
        generate_bindings(root, out, mlx, mlx_c);
        // Moved into place when it is whole.
        let partial = out.join("mlx_c");
        std::fs::create_dir_all(&partial).expect("OUT_DIR is writable");
        for file in ["libmlxc.a", "mlx_c.rs"] {
            std::fs::rename(out.join(file), partial.join(file)).expect("made above");
        }
        // Another build may have been faster: its result is as good.
        let _ = std::fs::rename(&partial, &made);
    }
    made
}

fn compile_mlx_c(mlx: &Path, mlx_c: &Path) {
    let sources = std::fs::read_dir(mlx_c.join("mlx/c"))
        .expect("mlx-c sources")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "cpp"));
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .files(sources)
        .files(["src/mlx/mapped.cpp", "src/mlx/primitive.cpp"])
        .include(mlx_c)
        .include(mlx.join("include"))
        .flag("-fvisibility=hidden")
        .warnings(false)
        .cargo_metadata(false)
        .compile("mlxc");
}

fn generate_bindings(root: &Path, out: &Path, mlx: &Path, mlx_c: &Path) {
    let mut builder = bindgen::Builder::default()
        .header(mlx_c.join("mlx/c/mlx.h").to_string_lossy())
        .clang_arg(format!("-I{}", mlx_c.display()))
        .clang_arg(format!("-I{}", mlx.join("include").display()))
        // aarch64's halves, which are not used here, need headers of the compiler's own.
        .clang_arg("-DMLX_HALF_H")
        .allowlist_item("_?mlx_.*|MLX_.*")
        .generate_comments(false)
        .layout_tests(false);
    if !system_libclang() {
        let dest = target_dir(out).join("mlx/libclang");
        fetch(root, "libclang", &dest);
        let folder = dest.join("libclang-18.1.1.data/platlib/clang/native");
        // SAFETY: a build script has one thread here. bindgen reads the variable when it loads libclang.
        unsafe { env::set_var("LIBCLANG_PATH", folder) };
        // The wheel holds the library alone; gcc has the compiler's own headers (stddef.h).
        builder = builder.clang_arg(format!("-I{}", gcc_include()));
    }
    builder
        .generate()
        .expect("bindings to mlx-c")
        .write_to_file(out.join("mlx_c.rs"))
        .expect("OUT_DIR is writable");
}

fn system_libclang() -> bool {
    println!("cargo:rerun-if-env-changed=LIBCLANG_PATH");
    env::var_os("LIBCLANG_PATH").is_some()
        || Command::new("clang").arg("--version").output().is_ok_and(|o| o.status.success())
}

fn gcc_include() -> String {
    let output = Command::new("gcc").arg("-print-file-name=include").output().expect("gcc runs");
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

fn link(out: &Path, mlx: &Path) {
    let major = env::var("CARGO_PKG_VERSION_MAJOR").unwrap();
    // Cargo lets test programs find libraries in folders of its own alone, so MLX gets a link there.
    let link = out.join("mlx");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(std::path::absolute(mlx).unwrap(), &link).expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={}", link.join("lib").display());
    println!("cargo:rustc-link-lib=dylib=mlx");
    println!("cargo:rustc-link-lib=dylib=stdc++");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmlxrt.so.{major}");
    // Where `make install` puts MLX, so the installed folder can be moved.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-rpath,$ORIGIN/mlxrt/mlx/lib");
    // MLX's CUDA build needs a driver, but at run time alone.
    println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
}

fn generate_header(root: &Path, out: &Path) {
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=src/ffi");
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let header = out.join("mlxrt.h");
    cbindgen::Builder::new()
        .with_config(config)
        .with_crate(root)
        .generate()
        .expect("the header")
        .write_to_file(&header);
    println!("cargo:rustc-env=MLXRT_GENERATED_HEADER={}", header.display());
}
