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
    /// Most requests that are computed together; further ones wait. 0: 32.
    public var maxConcurrent: UInt32
    /// Most requests that may wait; further ones end with the error `busy`. 0: 1024.
    public var maxQueue: UInt32

    public init(
        device: Device = .auto, dtype: DType = .auto, contextLength: UInt32 = 0, download: Bool = false,
        noMmap: Bool = false, maxConcurrent: UInt32 = 0, maxQueue: UInt32 = 0
    ) {
        self.device = device
        self.dtype = dtype
        self.contextLength = contextLength
        self.download = download
        self.noMmap = noMmap
        self.maxConcurrent = maxConcurrent
        self.maxQueue = maxQueue
    }
}

/// How far loading has come, in bytes of weights; of a download before that, which begins anew at 0 for
/// the weights.
public struct LoadProgress: Equatable, Sendable {
    public let done: UInt64
    public let total: UInt64
}
