import CMLXRT

/// A loaded model with its tokenizer.
///
///     let model = try await Model.load("path/to/model")
///     for try await token in model.chat([.user("What is the capital of France?")]) {
///         print(token.text, terminator: "")
///     }
///
/// Any number of tasks and threads may use it at the same time; answers that are generated at the same
/// time share its steps (continuous batching): each step computes the next token of every answer. Its
/// memory is freed by `close` or with the last reference.
public final class Model: Sendable {
    /// Describes the model. It works after `close` too.
    public let info: ModelInfo
    let handle: Handle

    /// Takes the handle over.
    init(handle: OpaquePointer) throws {
        self.handle = Handle(handle, name: "model") { mlxrt_model_free($0) }
        info = try ModelInfo(model: handle)
    }

    /// Frees the model and returns when its memory is free. Calls that are using it on other threads
    /// end with the error `closed`, and so does every later one. May be called more than once.
    public func close() { handle.close() }

    /// `check` for a call that uses the handle.
    func use(_ call: (OpaquePointer) -> Int32) throws { try handle.use(call) }

    /// Continues a prompt as it stands.
    public func generate(_ prompt: String, options: GenerateOptions = GenerateOptions()) -> Answer {
        Answer(Generation(model: self, prompt: .text(prompt), options: options))
    }

    /// Continues a prompt of token ids.
    public func generate(ids: [Int32], options: GenerateOptions = GenerateOptions()) -> Answer {
        Answer(Generation(model: self, prompt: .ids(ids), options: options))
    }

    /// Answers a conversation through the model's chat template.
    public func chat(
        _ messages: [Message], chat: ChatOptions = ChatOptions(), options: GenerateOptions = GenerateOptions()
    ) -> Answer {
        Answer(Generation(model: self, prompt: .chat(messages, chat), options: options))
    }
}
