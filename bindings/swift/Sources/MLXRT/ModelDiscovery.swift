import CMLXRT

/// A model that was found, or what looks like one and cannot be run.
public struct ModelEntry: Equatable, Sendable {
    /// What loads it: its folder, or its .gguf file.
    public let path: String
    /// What loads it as well if it lies in the Hugging Face cache: "org/name", with "@commit" where that
    /// is not the commit of branch main. Otherwise empty.
    public let id: String
    /// `model_type` of config.json, such as "qwen3", or what a .gguf file's architecture is called there.
    public let architecture: String
    /// The type of dense weights by config.json. `auto`: it says none, or another one.
    public let dtype: DType
    /// The same in config.json's words, such as "bfloat16".
    public let dtypeName: String
    /// How weights are quantised. `none`: they are not, or in another way.
    public let quantMode: QuantMode
    /// The same in config.json's words, such as "affine" or "gptq". Empty: they are not.
    public let quantName: String
    /// Bits of a quantised weight; 0: not quantised or not said.
    public let quantBits: Int
    /// Weights that share a scale; 0: not quantised or not said.
    public let quantGroup: Int
    /// Most tokens of prompt and answer together; 0: config.json does not say.
    public let contextLength: Int
    /// Bytes of the files with its weights.
    public let weightBytes: UInt64
    /// Why it cannot be run. Nil: it can, as far as that can be told without reading its weights.
    public let problem: MLXRTError?

    init(_ entry: mlxrt_model_entry) {
        func text(_ string: mlxrt_string) -> String {
            String(decoding: UnsafeRawBufferPointer(start: string.data, count: string.len), as: UTF8.self)
        }
        path = text(entry.path)
        id = text(entry.id)
        architecture = text(entry.architecture)
        dtype = DType(rawValue: entry.dtype) ?? .auto
        dtypeName = text(entry.dtype_name)
        quantMode = QuantMode(rawValue: entry.quant_mode) ?? .none
        quantName = text(entry.quant_name)
        quantBits = Int(entry.quant_bits)
        quantGroup = Int(entry.quant_group)
        contextLength = Int(entry.context_length)
        weightBytes = entry.weight_bytes
        problem =
            entry.status == 0
            ? nil
            : MLXRTError(
                status: MLXRTError.Status(rawValue: entry.status) ?? .internal, message: text(entry.problem))
    }
}

extension Model {
    /// Lists the models in a folder and below it, in the order of their paths. No weights are read; what
    /// is broken, incomplete or unreadable is listed with its problem.
    ///
    /// - Parameters:
    ///   - folder: where to look; nil: in the Hugging Face cache.
    ///   - includeCache: whether to look into the Hugging Face cache too, after the folder.
    ///   - maxDepth: how many folders deep to look below the first one; 0: 16.
    /// - Throws: `MLXRTError`, or `CancellationError` when the task is cancelled meanwhile.
    public static func discover(
        in folder: String? = nil, includeCache: Bool = false, maxDepth: UInt32 = 0
    ) async throws -> [ModelEntry] {
        try await blocking {
            try discover(folder, includeCache: includeCache, maxDepth: maxDepth, cancel: $0)
        }
    }

    private static func discover(
        _ folder: String?, includeCache: Bool, maxDepth: UInt32, cancel: Cancel
    ) throws -> [ModelEntry] {
        let strings = CStrings()
        let folder = folder.map(strings.add)
        var options = mlxrt_discover_options()
        options.struct_size = MemoryLayout<mlxrt_discover_options>.stride
        options.max_depth = maxDepth
        options.include_cache = includeCache ? 1 : 0
        options.cancel = cancel.handle
        let listener = EntryListener()
        let userData = Unmanaged.passUnretained(listener).toOpaque()
        try withExtendedLifetime((strings, listener, cancel)) {
            try check { mlxrt_discover(folder?.data, folder?.len ?? 0, &options, onEntry, userData) }
        }
        return listener.entries
    }
}

/// What user_data points to.
private final class EntryListener {
    var entries: [ModelEntry] = []
}

private let onEntry: mlxrt_discover_callback = { userData, entry in
    Unmanaged<EntryListener>.fromOpaque(userData!).takeUnretainedValue().entries.append(ModelEntry(entry!.pointee))
    return 0
}
