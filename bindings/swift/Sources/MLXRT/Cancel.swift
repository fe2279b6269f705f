import CMLXRT

/// Stops a call of the library from any thread.
///
/// The handle is a number that the library looks up, so it may be shared between threads.
final class Cancel: @unchecked Sendable {
    let handle: OpaquePointer

    init() throws {
        var handle: OpaquePointer?
        try check { mlxrt_cancel_new(&handle) }
        self.handle = handle!
    }

    deinit { mlxrt_cancel_free(handle) }

    func trigger() {
        _ = mlxrt_cancel_trigger(handle)  // fails only for a handle that was freed
    }
}
