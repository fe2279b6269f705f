//! The committed header is the one that the sources make.

use std::path::Path;

#[test]
fn include_mlxrt_h_is_up_to_date() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/mlxrt.h");
    let generated = std::fs::read_to_string(env!("MLXRT_GENERATED_HEADER")).unwrap();
    if std::env::var_os("MLXRT_UPDATE_HEADER").is_some() {
        std::fs::write(&committed, &generated).unwrap();
    }
    let current = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(current == generated, "include/mlxrt.h is stale: run `make header` and commit it");
}
