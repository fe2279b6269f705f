import CMLXRT

/// What a model is doing, and sums since it was loaded.
public struct ModelStats: Equatable, Sendable {
    /// Requests that wait to be begun with.
    public let waiting: Int
    /// Requests under way.
    public let running: Int
    /// Steps computed. A step has the next token of every answer and a part of the prompts.
    public let steps: UInt64
    /// Tokens that the model was run on; `tokens / steps` is how many share a step.
    public let tokens: UInt64
    /// Spent in steps.
    public let stepDuration: Duration
    /// The part of it in which the model was computed.
    public let evaluationDuration: Duration
    /// Sessions that hold tokens or are in use.
    public let sessions: Int
    /// Prompts that the prefix cache holds.
    public let prefixEntries: Int
    /// Bytes that it holds.
    public let prefixBytes: UInt64
    /// Bytes for keys and values that running requests may come to take.
    public let kvBytes: UInt64
    /// Bytes that requests and idle sessions may take.
    public let kvBudget: UInt64
    /// Tokens of all prompts that were begun with.
    public let promptTokens: UInt64
    /// Those of them that a session or the prefix cache had.
    public let cachedTokens: UInt64
}

extension Model {
    /// What the model is doing, without waiting for it: as of its last step.
    public func stats() throws -> ModelStats {
        var stats = mlxrt_stats()
        stats.struct_size = MemoryLayout<mlxrt_stats>.stride
        try use { mlxrt_model_stats($0, &stats) }
        return ModelStats(
            waiting: Int(stats.waiting), running: Int(stats.running), steps: stats.steps, tokens: stats.tokens,
            stepDuration: .seconds(stats.step_seconds), evaluationDuration: .seconds(stats.evaluation_seconds),
            sessions: Int(stats.sessions), prefixEntries: Int(stats.prefix_entries), prefixBytes: stats.prefix_bytes,
            kvBytes: stats.kv_bytes, kvBudget: stats.kv_budget_bytes, promptTokens: stats.prompt_tokens,
            cachedTokens: stats.cached_tokens)
    }
}
