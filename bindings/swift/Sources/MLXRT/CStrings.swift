import CMLXRT

/// Copies of strings for C, valid as long as this object lives.
final class CStrings {
    private var copies: [UnsafeMutableBufferPointer<CChar>] = []

    deinit { copies.forEach { $0.deallocate() } }

    func add(_ string: String) -> mlxrt_string {
        let utf8 = string.utf8
        let copy = UnsafeMutableBufferPointer<CChar>.allocate(capacity: utf8.count)
        _ = copy.initialize(from: utf8.lazy.map(CChar.init(bitPattern:)))
        copies.append(copy)
        return mlxrt_string(data: UnsafePointer(copy.baseAddress), len: copy.count)
    }

    func add(_ messages: [Message]) -> [mlxrt_message] {
        messages.map { mlxrt_message(role: add($0.role), content: add($0.content)) }
    }
}
