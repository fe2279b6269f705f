import CMLXRT

extension Model {
    /// Loads a model from a folder in the Hugging Face layout, or by its name in the Hugging Face cache.
    ///
    /// - Parameters:
    ///   - path: the folder with config.json, tokenizer.json and safetensors files; where there is none,
    ///     "org/name" or "org/name@revision" is looked for in the cache.
    ///   - progress: told how far loading has come, on the thread that loads.
    /// - Throws: `MLXRTError`, or `CancellationError` when the task is cancelled meanwhile.
    public static func load(
        _ path: String,
        options: LoadOptions = LoadOptions(),
        progress: (@Sendable (LoadProgress) -> Void)? = nil
    ) async throws -> Model {
        try await blocking { try load(path, options: options, cancel: $0, progress: progress) }
    }

    private static func load(
        _ path: String, options: LoadOptions, cancel: Cancel, progress: (@Sendable (LoadProgress) -> Void)?
    ) throws -> Model {
        let strings = CStrings()
        let path = strings.add(path)
        var load = mlxrt_load_options()
        load.struct_size = MemoryLayout<mlxrt_load_options>.stride
        load.device = options.device.rawValue
        load.dtype = options.dtype.rawValue
        load.context_length = options.contextLength
        load.download = options.download ? 1 : 0
        load.no_mmap = options.noMmap ? 1 : 0
        load.exact = options.exact ? 1 : 0
        load.threads = options.threads
        load.max_concurrent = options.maxConcurrent
        load.max_queue = options.maxQueue
        load.kv_budget_bytes = options.kvBudget
        load.prefix_cache_bytes = options.prefixCache ?? 0
        load.no_prefix_cache = options.prefixCache == nil ? 1 : 0
        if let folder = options.prefixCacheFolder.map(strings.add) {
            load.prefix_cache_path = folder.data
            load.prefix_cache_path_len = folder.len
        }
        load.kv_bits = options.kvBits
        load.rotate_context = options.rotatingContext == nil ? 0 : 1
        load.keep_tokens = options.rotatingContext ?? 0
        load.cancel = cancel.handle
        let listener = progress.map(ProgressListener.init)
        if let listener {
            load.user_data = listener.userData
            load.progress = ProgressListener.callback
        }
        var handle: OpaquePointer?
        try withExtendedLifetime((strings, listener, cancel)) {
            try check { mlxrt_model_load(path.data, path.len, &load, &handle) }
        }
        return try Model(handle: handle!)
    }
}
