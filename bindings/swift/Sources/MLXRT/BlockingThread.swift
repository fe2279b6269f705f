import Foundation

/// Runs work that blocks on a thread of its own: the threads that Swift runs tasks on are few and
/// must not block.
func onOwnThread(_ work: @escaping @Sendable () -> Void) {
    let thread = Thread(block: work)
    thread.name = "mlxrt"
    thread.stackSize = 2 << 20  // macOS gives 512 KiB, little for a chat template's recursion
    thread.start()
}
