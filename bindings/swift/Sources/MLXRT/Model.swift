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
///
/// The handle is a number that the library looks up, so it may be shared between threads.
public final class Model: @unchecked Sendable {
    /// Describes the model. It works after `close` too.
    public let info: ModelInfo
    private let handle: OpaquePointer
    private let isClosed = Guarded(false)

    /// Takes the handle over.
    init(handle: OpaquePointer) throws {
        do {
            info = try ModelInfo(model: handle)
        } catch {
            mlxrt_model_free(handle)
            throw error
        }
        self.handle = handle
    }

    deinit { mlxrt_model_free(handle) }

    /// Frees the model and returns when its memory is free. Calls that are using it on other threads
    /// end with the error `closed`, and so does every later one. May be called more than once.
    public func close() {
        isClosed.withLock { $0 = true }
        mlxrt_model_free(handle)  // ignores a handle that was freed before
    }

    /// `check` for a call that uses the handle.
    func use(_ call: (OpaquePointer) -> Int32) throws {
        do {
            try withExtendedLifetime(self) { try check { call(handle) } }
        } catch let error as MLXRTError where error.status == .badArgument {
            // The library can't tell a handle that was freed from one that never was.
            guard isClosed.withLock({ $0 }) else { throw error }
            throw MLXRTError(status: .closed, message: "the model is closed")
        }
    }

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
