import CMLXRT

/// How an answer ended and what it took. Durations are wall-clock: those in which the model was also
/// busy with other callers count in full.
public struct GenerateResult: Equatable, Sendable {
    /// Why an answer ended.
    public enum Finish: Int32, Sendable {
        /// It did not: it was stopped, or the call failed.
        case none = 0
        /// The model ended its turn, or a stop token came.
        case end = 1
        /// `maxTokens` were generated.
        case length = 2
        /// A stop string came.
        case stopString = 3
        /// A callback asked to stop. This package's callbacks do not.
        case callback = 4
        /// The context is full.
        case context = 5
    }

    public let finish: Finish
    /// The id that ended the answer where `finish` is `end`.
    public let stopToken: Int32?
    public let promptTokens: Int
    /// Of them, those that a cache had, so that they were not computed.
    public let cachedTokens: Int
    /// The token that ended the answer included.
    public let generatedTokens: Int
    /// Until the model began with the request; part of `prefillDuration`.
    public let queueDuration: Duration
    /// From the call to the first token.
    public let prefillDuration: Duration
    /// From the first token to the last.
    public let decodeDuration: Duration
    public let totalDuration: Duration
    public let prefillTokensPerSecond: Double
    public let decodeTokensPerSecond: Double
    /// `Memory.peak` at the end; the call does not reset it.
    public let peakMemoryBytes: UInt64
    /// `Memory.active` at the end.
    public let activeMemoryBytes: UInt64

    init(_ result: mlxrt_generate_result) {
        finish = Finish(rawValue: result.finish) ?? .none
        stopToken = finish == .end ? result.stop_token : nil
        promptTokens = Int(result.prompt_tokens)
        cachedTokens = Int(result.cached_tokens)
        generatedTokens = Int(result.generated_tokens)
        queueDuration = .seconds(result.queue_seconds)
        prefillDuration = .seconds(result.prefill_seconds)
        decodeDuration = .seconds(result.decode_seconds)
        totalDuration = .seconds(result.total_seconds)
        prefillTokensPerSecond = result.prefill_tokens_per_second
        decodeTokensPerSecond = result.decode_tokens_per_second
        peakMemoryBytes = result.peak_memory_bytes
        activeMemoryBytes = result.active_memory_bytes
    }
}
