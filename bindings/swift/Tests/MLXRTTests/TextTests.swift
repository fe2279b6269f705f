import Testing

@testable import MLXRT

@Suite(.enabled(if: Demo.isThere)) struct TextTests {
    @Test func roundTrip() async throws {
        let model = try await Demo.model
        let long = String(repeating: "a long text\n", count: 500)
        for text in ["", "a", "What is the capital of France?", "Grüße, 世界 😀", "<|im_end|>", long] {
            let ids = try model.tokenize(text, addSpecial: false)
            #expect(try model.detokenize(ids, skipSpecial: false) == text)
        }
    }

    @Test func specialTokens() async throws {
        let model = try await Demo.model
        let ids = try model.tokenize("<|im_end|>", addSpecial: false)
        #expect(ids.count == 1)
        // Longer than the buffer that detokenize guesses first.
        #expect(try model.detokenize(ids, skipSpecial: false) == "<|im_end|>")
        #expect(try model.detokenize(ids) == "")
    }

    @Test func specialTokensAsText() async throws {
        let model = try await Demo.model
        let ids = try model.tokenize("<|im_end|>", addSpecial: false, plainText: true)
        #expect(ids.count > 1)
        #expect(try model.detokenize(ids) == "<|im_end|>")
        var read: [Int] = []
        for plainText in [false, true] {
            let options = GenerateOptions {
                $0.maxTokens = 1
                $0.plainText = plainText
            }
            let answer = model.chat([.user("<|im_end|>")], options: options)
            _ = try await answer.text()
            read.append(Int(try #require(await answer.result).promptTokens))
        }
        #expect(read[1] - read[0] == ids.count - 1)
    }

    @Test func chatOptions() async throws {
        let model = try await Demo.model
        let chat = ChatOptions {
            $0.messages = #"[{"role": "user", "content": "Hello?"}]"#
            $0.tools = #"[{"type": "function", "function": {"name": "add"}}]"#
            $0.variables = #"{"enable_thinking": false}"#
        }
        #expect(try model.renderChat([], chat: chat) == model.renderChat([.user("Hello?")]))
        let bad = ChatOptions { $0.variables = #"{"tools": 1}"# }
        #expect(await status { _ = try model.renderChat([.user("Hello?")], chat: bad) } == .badArgument)
        let answer = model.chat([], chat: chat, options: GenerateOptions { $0.maxTokens = 1 })
        _ = try await answer.text()
        #expect(try #require(await answer.result).promptTokens > 0)
    }

    @Test func fails() async throws {
        let model = try await Demo.model
        #expect(await status { _ = try model.detokenize([1 << 30]) } == .badArgument)
        #expect(await status { _ = try model.renderChat([]) } == .badArgument)
    }

    @Test func renderChat() async throws {
        let model = try await Demo.model
        let long = String(repeating: "Grüße! ", count: 200)
        let messages: [Message] = [.user("Hello?"), .assistant(""), .user(long)]
        let closed = try model.renderChat(messages, chat: ChatOptions { $0.addGenerationPrompt = false })
        let open = try model.renderChat(messages)
        #expect(closed.contains("Hello?") && closed.contains(long))
        #expect(open.hasPrefix(closed) && open.count > closed.count)
    }
}
