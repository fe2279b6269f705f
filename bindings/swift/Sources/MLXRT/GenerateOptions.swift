import CMLXRT

/// How to generate. Zero always means the default.
public struct GenerateOptions: Sendable {
    /// Most tokens to generate. 0: 256.
    public var maxTokens: UInt32 = 0
    /// Divides the logits before sampling. 0: the most likely token is taken, without sampling.
    public var temperature: Float = 0
    /// Sample from this many most likely tokens only. 0: from all.
    public var topK: UInt32 = 0
    /// Sample from the most likely tokens that together reach this probability. 0 or 1: from all.
    public var topP: Float = 0
    /// Leave out tokens less likely than this times the most likely one.
    public var minP: Float = 0
    /// Makes recent tokens less likely. 0 or 1: off.
    public var repetitionPenalty: Float = 0
    /// How many recent tokens the penalty looks at, the prompt's included. 0: 64.
    public var repetitionWindow: UInt32 = 0
    /// The same seed gives the same tokens. 0: another one each time.
    public var seed: UInt64 = 0
    /// Ids that end the answer besides the model's own; not part of it.
    public var stopTokens: [Int32] = []
    /// Strings that end the answer; neither they nor what follows is part of it.
    public var stopStrings: [String] = []
    /// Don't stop at the model's end-of-turn tokens.
    public var ignoreEnd = false
    /// Add the tokenizer's own special tokens to a prompt. It has no effect on `chat`.
    public var addSpecial = true
    /// Read special tokens as text where the prompt, or the messages, tools and variables of a
    /// conversation hold them: for words of people you don't trust.
    public var plainText = false
    /// The conversation to go on from, one of the same model; nil: the prompt stands alone. The prompt of
    /// `generate` then stands behind the session's tokens. The messages of `chat` are the whole conversation:
    /// what of it the session holds is not computed again, and what it holds besides is forgotten.
    /// Afterwards the session holds the prompt and the answer, without the token that ended it. Not for
    /// batches.
    public var session: Session?

    public init() {}

    /// The defaults with some changes: `GenerateOptions { $0.maxTokens = 64 }`.
    public init(_ change: (inout GenerateOptions) -> Void) { change(&self) }

    /// Gives C the options for the duration of `body`.
    func withC<Result>(
        cancel: Cancel, strings: CStrings, _ body: (UnsafePointer<mlxrt_generate_options>) -> Result
    ) -> Result {
        var options = mlxrt_generate_options()
        options.struct_size = MemoryLayout<mlxrt_generate_options>.stride
        options.max_tokens = maxTokens
        options.temperature = temperature
        options.top_k = topK
        options.top_p = topP
        options.min_p = minP
        options.repetition_penalty = repetitionPenalty
        options.repetition_window = repetitionWindow
        options.seed = seed
        options.ignore_end = ignoreEnd ? 1 : 0
        options.no_special = addSpecial ? 0 : 1
        options.plain_text = plainText ? 1 : 0
        options.cancel = cancel.handle
        options.session = session?.handle.pointer
        return stopTokens.withUnsafeBufferPointer { tokens in
            options.stop_tokens = tokens.baseAddress
            options.stop_token_count = tokens.count
            return stopStrings.map(strings.add).withUnsafeBufferPointer { texts in
                options.stop_strings = texts.baseAddress
                options.stop_string_count = texts.count
                return withExtendedLifetime(cancel) { body(&options) }
            }
        }
    }
}
