import CMLXRT

/// The answer to one prompt of a batch.
public struct BatchResult: Sendable {
    /// What came until the end, however that came about.
    public let tokens: [Token]
    public let result: GenerateResult
    /// Nil for an answer that came to its end; `CancellationError` or an `MLXRTError`.
    public let error: (any Error)?

    /// The whole answer.
    public var text: String { tokens.reduce(into: "") { $0 += $1.text } }
}

/// The next token behind a prompt.
public struct Classification: Sendable {
    /// The most likely one, its `logprob` among the whole vocabulary. Nil where there is an error.
    public let token: Token?
    /// Those that the options ask for, else empty.
    public let logits: [Float]
    /// `CancellationError` or an `MLXRTError`.
    public let error: (any Error)?
}

/// How to classify.
public struct ClassifyOptions: Sendable {
    /// Token ids whose logits are wanted, in this order.
    public var labels: [Int32] = []
    /// Whether the logits of the whole vocabulary are wanted, in place of `labels`.
    public var allLogits = false
    /// Add the tokenizer's own special tokens to the prompts.
    public var addSpecial = true
    /// Read special tokens as text where a prompt holds them.
    public var plainText = false

    public init() {}

    /// The defaults with some changes: `ClassifyOptions { $0.allLogits = true }`.
    public init(_ change: (inout ClassifyOptions) -> Void) { change(&self) }
}

extension Model {
    /// Continues many prompts together; the results are in their order. A prompt that fails stops no
    /// other. When the task is cancelled the results have what was generated until then.
    ///
    /// - Throws: `MLXRTError` where nothing was begun: for an option that is wrong, say.
    public func generateBatch(
        _ prompts: [String], options: GenerateOptions = GenerateOptions()
    ) async throws -> [BatchResult] {
        try await blocking { [self] cancel in
            let strings = CStrings()
            let list = prompts.map(strings.add)
            let listener = Listener<[Token]>(prompts.map { _ in [] })
            var blank = mlxrt_generate_result()
            blank.struct_size = MemoryLayout<mlxrt_generate_result>.stride
            blank.status = -1  // until it is written
            var results = prompts.map { _ in blank }
            var failure: MLXRTError?
            do {
                try withExtendedLifetime((strings, listener)) {
                    try use { model in
                        options.withC(cancel: cancel, strings: strings) { options in
                            mlxrt_model_generate_batch(
                                model, list, list.count, options, onBatchToken, listener.userData, &results)
                        }
                    }
                }
            } catch let error as MLXRTError {
                guard results.contains(where: { $0.status > 0 }) else { throw error }
                failure = error
            }
            return zip(results, listener.found).map { result, tokens in
                BatchResult(
                    tokens: tokens, result: GenerateResult(result), error: promptError(result.status, &failure))
            }
        }
    }

    /// Finds the most likely next token behind each prompt, without generating: a prompt costs its prefill
    /// only. Results and errors are as for `generateBatch`.
    public func classify(
        _ prompts: [String], options: ClassifyOptions = ClassifyOptions()
    ) async throws -> [Classification] {
        try await blocking { [self] cancel in
            let strings = CStrings()
            let list = prompts.map(strings.add)
            let listener = Listener<Scores>([])
            var failure: MLXRTError?
            do {
                try withExtendedLifetime((strings, listener, cancel)) {
                    try options.labels.withUnsafeBufferPointer { labels in
                        var given = mlxrt_classify_options()
                        given.struct_size = MemoryLayout<mlxrt_classify_options>.stride
                        given.labels = labels.baseAddress
                        given.label_count = labels.count
                        given.cancel = cancel.handle
                        given.all_logits = options.allLogits ? 1 : 0
                        given.no_special = options.addSpecial ? 0 : 1
                        given.plain_text = options.plainText ? 1 : 0
                        try use {
                            mlxrt_model_classify($0, list, list.count, &given, onClassification, listener.userData)
                        }
                    }
                }
            } catch let error as MLXRTError {
                guard listener.found.contains(where: { $0.status > 0 }) else { throw error }
                failure = error
            }
            return listener.found.map { scores in
                Classification(
                    token: scores.token, logits: scores.logits, error: promptError(scores.status, &failure))
            }
        }
    }
}

/// The error of one prompt. The first that failed takes the call's, which has the message.
private func promptError(_ status: Int32, _ failure: inout MLXRTError?) -> (any Error)? {
    guard status != 0 else { return nil }
    let name = String(cString: mlxrt_status_name(status))
    let error = failure ?? MLXRTError(status: MLXRTError.Status(rawValue: status) ?? .internal, message: name)
    failure = nil
    return error.status == .cancelled ? CancellationError() : error
}

private struct Scores {
    let status: Int32
    let token: Token?
    let logits: [Float]
}

/// What user_data points to: what was told so far.
private final class Listener<Found> {
    var found: [Found]
    init(_ found: [Found]) { self.found = found }

    var userData: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }

    static func of(_ userData: UnsafeMutableRawPointer?) -> Listener {
        Unmanaged<Listener>.fromOpaque(userData!).takeUnretainedValue()
    }
}

private let onBatchToken: mlxrt_batch_callback = { userData, index, token in
    Listener<[Token]>.of(userData).found[index].append(Token(token!.pointee))
    return 0
}

private let onClassification: mlxrt_classify_callback = { userData, _, found in
    let found = found!.pointee
    Listener<Scores>.of(userData).found.append(
        Scores(
            status: found.status,
            token: found.status == 0 ? Token(found) : nil,
            logits: Array(UnsafeBufferPointer(start: found.logits, count: found.logit_count))))
    return 0
}
