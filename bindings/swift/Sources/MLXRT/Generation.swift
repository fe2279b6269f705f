import CMLXRT

/// A call that generates, ready to be made.
struct Generation: Sendable {
    enum Prompt: Sendable {
        case text(String)
        case ids([Int32])
        case chat([Message], ChatOptions)
    }

    let model: Model
    let prompt: Prompt
    let options: GenerateOptions

    /// Blocks until the answer is complete. `emit` sees each token, on this thread.
    func run(cancel: Cancel, emit: (Token) -> Void) -> (GenerateResult?, (any Error)?) {
        var result = mlxrt_generate_result()
        result.struct_size = MemoryLayout<mlxrt_generate_result>.stride
        do {
            try withoutActuallyEscaping(emit) { emit in
                let listener = TokenListener(emit)
                try withExtendedLifetime(listener) {
                    try call(cancel, Unmanaged.passUnretained(listener).toOpaque(), &result)
                }
            }
            return (GenerateResult(result), nil)
        } catch let error as MLXRTError where error.status == .cancelled {
            return (GenerateResult(result), CancellationError())
        } catch let error as MLXRTError where error.status == .closed {
            return (GenerateResult(result), error)
        } catch {
            return (nil, error)
        }
    }

    private func call(
        _ cancel: Cancel, _ userData: UnsafeMutableRawPointer, _ result: UnsafeMutablePointer<mlxrt_generate_result>
    ) throws {
        let strings = CStrings()
        try withExtendedLifetime(strings) {
            try model.use { model in
                options.withC(cancel: cancel, strings: strings) { options in
                    switch prompt {
                    case .text(let text):
                        let text = strings.add(text)
                        return mlxrt_model_generate(model, text.data, text.len, options, onToken, userData, result)
                    case .ids(let ids):
                        return mlxrt_model_generate_ids(model, ids, ids.count, options, onToken, userData, result)
                    case .chat(let messages, let chat):
                        let list = strings.add(messages)
                        return withUnsafePointer(to: chat.toC(strings)) { chat in
                            mlxrt_model_chat(model, list, list.count, chat, options, onToken, userData, result)
                        }
                    }
                }
            }
        }
    }
}

/// What user_data points to.
private final class TokenListener {
    let emit: (Token) -> Void
    init(_ emit: @escaping (Token) -> Void) { self.emit = emit }
}

private let onToken: mlxrt_token_callback = { userData, token in
    Unmanaged<TokenListener>.fromOpaque(userData!).takeUnretainedValue().emit(Token(token!.pointee))
    return 0
}
