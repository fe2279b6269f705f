import CMLXRT
import Foundation

/// A generated token.
public struct Token: Equatable, Sendable {
    /// Nil for text that was held back and comes with no token of its own.
    public let id: Int32?
    /// What this token completes, perhaps nothing yet.
    public let text: String
    /// The natural logarithm of the probability that the model gave the token.
    public let logprob: Float

    init(_ token: mlxrt_token) {
        id = token.id < 0 ? nil : token.id
        text = String(decoding: UnsafeRawBufferPointer(start: token.text, count: token.text_len), as: UTF8.self)
        logprob = token.logprob
    }
    init(_ found: mlxrt_classification) {
        id = found.token
        text = String(decoding: UnsafeRawBufferPointer(start: found.text.data, count: found.text.len), as: UTF8.self)
        logprob = log(found.probability)
    }
}
