/// A handle of the library that is freed once: by `close`, or with the last reference.
///
/// It is a number that the library looks up, so it may be shared between threads.
final class Handle: @unchecked Sendable {
    let pointer: OpaquePointer
    private let name: String
    private let free: @Sendable (OpaquePointer) -> Void
    private let isClosed = Guarded(false)

    /// - Parameters:
    ///   - name: what it is, for messages.
    ///   - free: ignores a handle that was freed before.
    init(_ pointer: OpaquePointer, name: String, free: @escaping @Sendable (OpaquePointer) -> Void) {
        self.pointer = pointer
        self.name = name
        self.free = free
    }

    deinit { free(pointer) }

    func close() {
        isClosed.withLock { $0 = true }
        free(pointer)
    }

    /// `check` for a call that uses the handle.
    func use(_ call: (OpaquePointer) -> Int32) throws {
        try explain { try check { call(pointer) } }
    }

    /// Keeps the handle for the work, and finds out what its error means: the library can't tell a handle
    /// that was freed from one that never was.
    func explain<Result>(_ work: () throws -> Result) throws -> Result {
        do {
            return try withExtendedLifetime(self) { try work() }
        } catch let error as MLXRTError where error.status == .badArgument {
            guard isClosed.withLock({ $0 }) else { throw error }
            throw MLXRTError(status: .closed, message: "the \(name) is closed")
        }
    }

    /// Calls with a buffer of a guessed size, and again with the right size if it was too small.
    func fill<Element>(
        guess: Int,
        _ call: (OpaquePointer, UnsafeMutableBufferPointer<Element>, UnsafeMutablePointer<Int>) -> Int32
    ) throws -> [Element] {
        let size = max(guess, 1)  // with no buffer at all the library only counts
        var needed = 0
        do {
            return try [Element](unsafeUninitializedCapacity: size) { buffer, count in
                let part = UnsafeMutableBufferPointer(rebasing: buffer[..<size])
                try use { call($0, part, &needed) }
                count = needed
            }
        } catch let error as MLXRTError where error.status == .bufferTooSmall && needed > size {
            return try fill(guess: needed, call)
        }
    }
}
