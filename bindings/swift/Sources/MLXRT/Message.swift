/// One message of a conversation.
public struct Message: Equatable, Codable, Sendable {
    /// Who speaks: "system", "user", "assistant", or what else the model's template knows.
    public var role: String
    /// What is said.
    public var content: String

    public init(role: String, content: String) {
        self.role = role
        self.content = content
    }

    public static func system(_ content: String) -> Message { Message(role: "system", content: content) }
    public static func user(_ content: String) -> Message { Message(role: "user", content: content) }
    public static func assistant(_ content: String) -> Message { Message(role: "assistant", content: content) }
}
