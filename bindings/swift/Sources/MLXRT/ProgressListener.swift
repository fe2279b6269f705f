/// Hands the library's progress on to a closure.
final class ProgressListener {
    private let told: @Sendable (LoadProgress) -> Void
    init(_ told: @escaping @Sendable (LoadProgress) -> Void) { self.told = told }

    /// What the library is to give back; valid as long as the listener lives.
    var userData: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }

    static let callback: @convention(c) (UnsafeMutableRawPointer?, UInt64, UInt64) -> Int32 = {
        userData, done, total in
        let listener = Unmanaged<ProgressListener>.fromOpaque(userData!).takeUnretainedValue()
        listener.told(LoadProgress(done: done, total: total))
        return 0
    }
}
