import CMLXRT

/// Describes a model.
public struct ModelInfo: Equatable, Sendable {
    /// `model_type` of config.json, such as "qwen3".
    public let architecture: String
    /// Number of parameters, counted before quantisation.
    public let parameters: UInt64
    /// What the weights take in memory.
    public let weightBytes: UInt64
    /// Rows of the embedding table: token ids are below this.
    public let vocabSize: Int
    public let layers: Int
    /// Width of the residual stream.
    public let hiddenSize: Int
    /// Query heads.
    public let heads: Int
    /// Key and value heads.
    public let kvHeads: Int
    public let headDim: Int
    /// Most tokens of prompt and answer together.
    public let contextLength: Int
    /// Bits of a quantised weight; 0: not quantised.
    public let quantBits: Int
    /// Weights that share a scale; 0: not quantised.
    public let quantGroup: Int
    public let quantMode: QuantMode
    /// Tensors in the files that are of no use to the model: a vision tower's, say.
    public let unusedTensors: Int
    /// Whether `Model.chat` works.
    public let hasChatTemplate: Bool
    public let device: Device
    public let dtype: DType

    init(model: OpaquePointer) throws {
        var desc = mlxrt_model_desc()
        desc.struct_size = MemoryLayout<mlxrt_model_desc>.stride
        try check { mlxrt_model_info(model, &desc) }
        architecture = String(cString: desc.architecture)
        parameters = desc.parameters
        weightBytes = desc.weight_bytes
        vocabSize = Int(desc.vocab_size)
        layers = Int(desc.num_layers)
        hiddenSize = Int(desc.hidden_size)
        heads = Int(desc.num_heads)
        kvHeads = Int(desc.num_kv_heads)
        headDim = Int(desc.head_dim)
        contextLength = Int(desc.context_length)
        quantBits = Int(desc.quant_bits)
        quantGroup = Int(desc.quant_group)
        quantMode = QuantMode(rawValue: desc.quant_mode) ?? .none
        unusedTensors = Int(desc.unused_tensors)
        hasChatTemplate = desc.has_chat_template != 0
        device = Device(rawValue: desc.device) ?? .auto
        dtype = DType(rawValue: desc.dtype) ?? .auto
    }
}
