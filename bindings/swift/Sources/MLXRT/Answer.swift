import CMLXRT

/// The tokens of one answer, as they come.
///
/// Generating begins when the tokens are first asked for and runs a few of them ahead. It stops when the
/// loop is left, when the task is cancelled (the loop then throws `CancellationError`) and when the
/// model is closed. An answer gives its tokens once: another loop over it gets none.
public final class Answer: AsyncSequence, Sendable {
    public typealias Element = Token

    private struct State {
        var isStarted = false
        var isOver = false
        var result: GenerateResult?
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let generation: Generation
    private let state = Guarded(State())

    init(_ generation: Generation) { self.generation = generation }

    /// What the answer took, once it is over; waits for the end of one that is under way. Nil for an
    /// answer whose tokens were never asked for, and where the call failed.
    public var result: GenerateResult? {
        get async {
            await withCheckedContinuation { continuation in
                let isUnderWay = state.withLock { state in
                    guard state.isStarted && !state.isOver else { return false }
                    state.waiting.append(continuation)
                    return true
                }
                if !isUnderWay { continuation.resume() }
            }
            return state.withLock { $0.result }
        }
    }

    /// The whole answer.
    public func text() async throws -> String {
        var text = ""
        for try await token in self { text += token.text }
        return text
    }

    /// Gives the tokens. Generating stops when the last copy of it is gone.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let tokens: Tokens?

        public mutating func next() async throws -> Token? { try await tokens?.next() }
    }

    public func makeAsyncIterator() -> AsyncIterator {
        let wasStarted = state.withLock { state in
            defer { state.isStarted = true }
            return state.isStarted
        }
        return AsyncIterator(tokens: wasStarted ? nil : Tokens(generation, answer: self))
    }

    /// The result is there before the loop over the tokens ends. What comes first counts.
    fileprivate func end(_ result: GenerateResult?) {
        let waiting = state.withLock { state in
            guard !state.isOver else { return [CheckedContinuation<Void, Never>]() }
            state.isOver = true
            state.result = result
            defer { state.waiting = [] }
            return state.waiting
        }
        waiting.forEach { $0.resume() }
    }
}

/// Pulls the tokens out of the library. Each is waited for on a thread that the answer has to itself: with
/// shared ones, answers that wait for their turn could keep those from theirs that everything waits for.
private final class Tokens: @unchecked Sendable {
    private let generation: Generation
    private let answer: Answer
    private let thread = WorkThread()
    private let cancel = Result { try Cancel() }
    /// Of the thread alone, until this object is gone.
    private var stream: OpaquePointer?

    init(_ generation: Generation, answer: Answer) {
        self.generation = generation
        self.answer = answer
    }

    deinit {
        answer.end(result)
        mlxrt_stream_free(stream)
    }

    func next() async throws -> Token? {
        try await withTaskCancellationHandler {
            try await thread.run { [self] in try cancellationError { try take() } }
        } onCancel: {
            try? cancel.get().trigger()
        }
    }

    private func take() throws -> Token? {
        do {
            if stream == nil { stream = try generation.open(cancel: cancel.get()) }
            var token: UnsafePointer<mlxrt_token>?
            try check { mlxrt_stream_next(stream, &token) }
            if let token { return Token(token.pointee) }
        } catch {
            let status = (error as? MLXRTError)?.status
            answer.end(status == .cancelled || status == .closed ? result : nil)
            throw error
        }
        answer.end(result)
        return nil
    }

    private var result: GenerateResult? {
        var result = mlxrt_generate_result()
        result.struct_size = MemoryLayout<mlxrt_generate_result>.stride
        guard stream != nil, mlxrt_stream_result(stream, &result) == 0 else { return nil }
        return GenerateResult(result)
    }
}
