import CMLXRT

/// How quantised weights are stored.
public enum QuantMode: Int32, Sendable {
    /// Not quantised.
    case none = 0
    /// Integers with a scale and a bias a group.
    case affine = 1
    /// OCP microscaling: 4-bit floats.
    case mxfp4 = 2
    /// OCP microscaling: 8-bit floats.
    case mxfp8 = 3
    /// NVIDIA's 4-bit floats.
    case nvfp4 = 4
}

/// How to convert.
public struct ConvertOptions: Sendable {
    /// What weight matrices are stored in; `none` leaves them dense.
    public var mode: QuantMode
    /// Bits of a quantised weight. 0: 4, or 8 for `mxfp8`.
    public var bits: UInt32
    /// Weights that share a scale. 0: 64 for `affine`, else the mode's own.
    public var group: UInt32
    /// The type of what is not quantised; `auto`: what config.json says.
    public var dtype: DType

    public init(mode: QuantMode = .none, bits: UInt32 = 0, group: UInt32 = 0, dtype: DType = .auto) {
        self.mode = mode
        self.bits = bits
        self.group = group
        self.dtype = dtype
    }
}

extension Model {
    /// Reads a model folder whose weights are floating-point numbers and writes a new folder with
    /// quantised ones, which `load` and mlx-lm load. The folder gets its name when it is complete; after
    /// an error nothing of it is left.
    ///
    /// - Throws: `MLXRTError`, or `CancellationError` when the task is cancelled meanwhile.
    public static func convert(
        _ source: String,
        to destination: String,
        options: ConvertOptions = ConvertOptions(),
        progress: (@Sendable (LoadProgress) -> Void)? = nil
    ) async throws {
        try await blocking { try convert(source, destination, options, $0, progress) }
    }

    private static func convert(
        _ source: String, _ destination: String, _ options: ConvertOptions, _ cancel: Cancel,
        _ progress: (@Sendable (LoadProgress) -> Void)?
    ) throws {
        let strings = CStrings()
        let source = strings.add(source)
        let destination = strings.add(destination)
        var convert = mlxrt_convert_options()
        convert.struct_size = MemoryLayout<mlxrt_convert_options>.stride
        convert.quant_mode = options.mode.rawValue
        convert.quant_bits = options.bits
        convert.quant_group = options.group
        convert.dtype = options.dtype.rawValue
        convert.cancel = cancel.handle
        let listener = progress.map(ProgressListener.init)
        if let listener {
            convert.user_data = listener.userData
            convert.progress = ProgressListener.callback
        }
        try withExtendedLifetime((strings, listener, cancel)) {
            try check {
                mlxrt_model_convert(
                    source.data, source.len, destination.data, destination.len, &convert)
            }
        }
    }
}
