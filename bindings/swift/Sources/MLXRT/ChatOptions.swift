import CMLXRT

/// What a conversation has besides messages. Its texts are JSON and may be empty. Templates see the
/// keys of objects in the order in which they are written.
public struct ChatOptions: Sendable {
    /// Stands in place of the call's messages: a list of objects as OpenAI's interface has them, with
    /// "role", "content", and what else the template knows, such as "tool_calls", "tool_call_id" and
    /// "reasoning_content".
    public var messages = ""
    /// A list of tools that the model may call, as OpenAI's interface has them.
    public var tools = ""
    /// An object of further variables for the template, such as `{"enable_thinking": false}`.
    public var variables = ""
    /// Whether the text ends where the assistant's answer begins.
    public var addGenerationPrompt = true

    public init() {}

    /// The defaults with some changes: `ChatOptions { $0.tools = json }`.
    public init(_ change: (inout ChatOptions) -> Void) { change(&self) }

    /// C's options, whose texts live as long as `strings`.
    func toC(_ strings: CStrings) -> mlxrt_chat_options {
        var options = mlxrt_chat_options()
        options.struct_size = MemoryLayout<mlxrt_chat_options>.stride
        options.messages = strings.add(messages)
        options.tools = strings.add(tools)
        options.variables = strings.add(variables)
        options.no_generation_prompt = addGenerationPrompt ? 0 : 1
        return options
    }
}
