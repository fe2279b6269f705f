import CMLXRT

/// The tokens of one answer, as they come.
///
/// Generating begins when the tokens are first asked for, on a thread of its own. It stops when the
/// loop is left, when the task is cancelled (the loop then throws `CancellationError`) and when the
/// model is closed. An answer gives its tokens once: another loop over it gets none.
public final class Answer: AsyncSequence, Sendable {
    public typealias Element = Token

    private struct State {
        var isStarted = false
        var isOver = false
        var isComplete = false
        var result: GenerateResult?
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let generation: Generation
    private let state = Guarded(State())

    init(_ generation: Generation) { self.generation = generation }

    /// What the answer took, once it is over; waits for the end of one that was stopped. Nil for an
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
        fileprivate var tokens: AsyncThrowingStream<Token, any Error>.Iterator
        fileprivate let answer: Answer
        fileprivate let stopper: Stopper?

        public mutating func next() async throws -> Token? {
            if let token = try await tokens.next() { return token }
            // The stream of a cancelled task ends without a word.
            if !answer.state.withLock({ $0.isComplete }) { try Task.checkCancellation() }
            return nil
        }
    }

    public func makeAsyncIterator() -> AsyncIterator {
        let (stream, continuation) = AsyncThrowingStream<Token, any Error>.makeStream()
        let wasStarted = state.withLock { state in
            defer { state.isStarted = true }
            return state.isStarted
        }
        var stopper: Stopper?
        if wasStarted {
            continuation.finish()
        } else {
            do {
                let cancel = try Cancel()
                stopper = Stopper(cancel)
                start(cancel, continuation)
            } catch {
                end(nil, error, continuation)
            }
        }
        return AsyncIterator(tokens: stream.makeAsyncIterator(), answer: self, stopper: stopper)
    }

    private func start(_ cancel: Cancel, _ continuation: AsyncThrowingStream<Token, any Error>.Continuation) {
        continuation.onTermination = { if case .cancelled = $0 { cancel.trigger() } }
        onOwnThread { [self] in
            let (result, error) = generation.run(cancel: cancel) { continuation.yield($0) }
            end(result, error, continuation)
        }
    }

    /// The result is there before the loop over the tokens ends.
    private func end(
        _ result: GenerateResult?, _ error: (any Error)?,
        _ continuation: AsyncThrowingStream<Token, any Error>.Continuation
    ) {
        let waiting = state.withLock { state in
            state.isOver = true
            state.isComplete = error == nil
            state.result = result
            defer { state.waiting = [] }
            return state.waiting
        }
        waiting.forEach { $0.resume() }
        continuation.finish(throwing: error)
    }
}

/// Stops generating when the loop over the tokens is gone, be the answer still referred to or not.
private final class Stopper: Sendable {
    private let cancel: Cancel
    init(_ cancel: Cancel) { self.cancel = cancel }
    deinit { cancel.trigger() }
}
