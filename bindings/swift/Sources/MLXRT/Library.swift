import CMLXRT

/// The loaded library.
public enum Library {
    /// Its version, such as "0.1.0".
    public static var version: String { String(cString: mlxrt_version()) }

    /// What it was built from, in one line for people and bug reports.
    public static var buildInfo: String { String(cString: mlxrt_build_info()) }

    /// Whether the library that was found at run time fits the header that this package was compiled
    /// with. Every call that can throw checks this first.
    static func checkInterface(_ loaded: UInt32 = mlxrt_abi_version()) throws {
        guard loaded != UInt32(MLXRT_ABI_VERSION) else { return }
        throw MLXRTError(
            status: .unsupported,
            message: """
                the library found at run time (version \(version)) has binary interface \(loaded), \
                this program was compiled for \(MLXRT_ABI_VERSION): rebuild it, or install the \
                library that it was built with
                """)
    }
}
