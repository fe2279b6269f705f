/// How to load a model.
public struct LoadOptions: Sendable {
    /// What to compute on.
    public var device: Device
    /// What dense weights are converted to and activations are computed in.
    public var dtype: DType
    /// Most tokens of prompt and answer together. 0: as many as the model was made for.
    public var contextLength: UInt32
    /// Whether a model that is neither a path nor whole in the Hugging Face cache may be downloaded into
    /// that cache, if the library was built with downloads.
    public var download: Bool
    /// Read weights into memory even where they could stay in their files. A mapped file must not be
    /// shortened while the model is loaded.
    public var noMmap: Bool
    /// Multiply affine quantised matrices on the CPU in float32. By default the input of such a product is
    /// rounded to 8-bit integers, with a scale for every 32 of a row, which is faster.
    public var exact: Bool
    /// Threads that compute on the CPU, at most 1024. They are the process's: all models use this many
    /// until another is loaded with a number of its own. 0 leaves the number as it is; at first there is
    /// one for each physical core that the process may use.
    public var threads: UInt32
    /// Most requests that are computed together; further ones wait. 0: 32.
    public var maxConcurrent: UInt32
    /// Most requests that may wait; further ones end with the error `busy`. 0: 1024.
    public var maxQueue: UInt32
    /// Bytes that requests and idle sessions may take for keys and values. A request that does not fit beside
    /// the others waits; one that could not fit alone ends with the error `outOfMemory`. 0: half of the
    /// device's memory.
    public var kvBudget: UInt64
    /// Most bytes that are kept besides of prompts that were computed, so that prompts which begin alike share
    /// that. 0: an eighth of the budget. Nil: nothing is kept.
    public var prefixCache: UInt64?
    /// A folder where the prefix cache stays when the model is freed, for the next process. Nil: it is
    /// forgotten.
    public var prefixCacheFolder: String?
    /// Bits of a stored key or value, 8 or 4. 0: as they are computed.
    public var kvBits: UInt32
    /// Go on when the context is full: this many of the first tokens and the most recent ones are then
    /// remembered, `contextLength` in all, and the others forgotten. Nil: the answer ends.
    public var rotatingContext: UInt32?

    public init(
        device: Device = .auto, dtype: DType = .auto, contextLength: UInt32 = 0, download: Bool = false,
        noMmap: Bool = false, exact: Bool = false, threads: UInt32 = 0,
        maxConcurrent: UInt32 = 0, maxQueue: UInt32 = 0, kvBudget: UInt64 = 0, prefixCache: UInt64? = 0,
        prefixCacheFolder: String? = nil, kvBits: UInt32 = 0, rotatingContext: UInt32? = nil
    ) {
        self.device = device
        self.dtype = dtype
        self.contextLength = contextLength
        self.download = download
        self.noMmap = noMmap
        self.exact = exact
        self.threads = threads
        self.maxConcurrent = maxConcurrent
        self.maxQueue = maxQueue
        self.kvBudget = kvBudget
        self.prefixCache = prefixCache
        self.prefixCacheFolder = prefixCacheFolder
        self.kvBits = kvBits
        self.rotatingContext = rotatingContext
    }
}

/// How far loading has come, in bytes of weights; of a download before that, which begins anew at 0 for
/// the weights.
public struct LoadProgress: Equatable, Sendable {
    public let done: UInt64
    public let total: UInt64
}
