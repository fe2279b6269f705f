// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "MLXRT",
    platforms: [.macOS(.v14)],
    products: [.library(name: "MLXRT", targets: ["MLXRT"])],
    targets: [
        // pkg-config finds the library: set PKG_CONFIG_PATH to the folder of mlxrt.pc if it lies
        // elsewhere than the system's own.
        .systemLibrary(name: "CMLXRT", pkgConfig: "mlxrt"),
        .target(name: "MLXRT", dependencies: ["CMLXRT"]),
        .executableTarget(name: "Chat", dependencies: ["MLXRT"], path: "Examples/Chat"),
        .testTarget(name: "MLXRTTests", dependencies: ["MLXRT"]),
    ]
)
