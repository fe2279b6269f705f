import Foundation

/// Runs work that blocks on a thread of its own: the threads that Swift runs tasks on are few and
/// must not block.
func onOwnThread(_ work: @escaping @Sendable () -> Void) {
    let thread = Thread(block: work)
    thread.name = "mlxrt"
    thread.stackSize = 2 << 20  // macOS gives 512 KiB, little for a chat template's recursion
    thread.start()
}

/// Waits for work on a thread of its own. Its handle is triggered when the task is cancelled; what then
/// ends with the status `cancelled` throws `CancellationError`.
func blocking<Result: Sendable>(_ work: @escaping @Sendable (Cancel) throws -> Result) async throws -> Result {
    let cancel = try Cancel()
    return try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
            onOwnThread {
                continuation.resume(with: Swift.Result { try cancellationError { try work(cancel) } })
            }
        }
    } onCancel: {
        cancel.trigger()
    }
}

/// Nothing but the task's end triggers the handles of this package.
func cancellationError<Result>(_ work: () throws -> Result) throws -> Result {
    do {
        return try work()
    } catch let error as MLXRTError where error.status == .cancelled {
        throw CancellationError()
    }
}

/// A thread for pieces of work that block, one after the other. It ends with this object.
final class WorkThread: Sendable {
    private let inbox = Inbox()

    init() {
        onOwnThread { [inbox] in
            while let piece = inbox.take() { piece() }
        }
    }

    deinit { inbox.close() }

    /// Waits for a piece of work.
    func run<Result: Sendable>(_ work: @escaping @Sendable () throws -> Result) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            inbox.put { continuation.resume(with: Swift.Result { try work() }) }
        }
    }
}

private final class Inbox: @unchecked Sendable {
    private let condition = NSCondition()
    private var pieces: [@Sendable () -> Void] = []
    private var isClosed = false

    func put(_ piece: @escaping @Sendable () -> Void) {
        condition.lock()
        pieces.append(piece)
        condition.signal()
        condition.unlock()
    }

    func close() {
        condition.lock()
        isClosed = true
        condition.signal()
        condition.unlock()
    }

    /// Nil: it was closed.
    func take() -> (@Sendable () -> Void)? {
        condition.lock()
        defer { condition.unlock() }
        while pieces.isEmpty && !isClosed { condition.wait() }
        return pieces.isEmpty ? nil : pieces.removeFirst()
    }
}
