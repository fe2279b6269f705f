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

    @Test func fails() async throws {
        let model = try await Demo.model
        #expect(await status { _ = try model.detokenize([1 << 30]) } == .badArgument)
        #expect(await status { _ = try model.renderChat([]) } == .badArgument)
    }

    @Test func renderChat() async throws {
        let model = try await Demo.model
        let long = String(repeating: "Grüße! ", count: 200)
        let messages: [Message] = [.user("Hello?"), .assistant(""), .user(long)]
        let closed = try model.renderChat(messages, addGenerationPrompt: false)
        let open = try model.renderChat(messages)
        #expect(closed.contains("Hello?") && closed.contains(long))
        #expect(open.hasPrefix(closed) && open.count > closed.count)
    }
}
