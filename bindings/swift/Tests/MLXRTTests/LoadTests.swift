import Testing

@testable import MLXRT

@Suite(.enabled(if: Demo.isThere)) struct LoadTests {
    @Test func missingFolder() async {
        do {
            _ = try await Model.load("/nowhere/to/be/found")
            Issue.record("it loaded")
        } catch {
            let error = error as? MLXRTError
            #expect(error?.status == .notFound)
            #expect(error?.description.contains("nowhere") == true)
        }
    }

    @Test func info() async throws {
        let model = try await Demo.own()
        let info = model.info
        #expect(!info.architecture.isEmpty && info.vocabSize > 0 && info.layers > 0 && info.hiddenSize > 0)
        #expect(info.heads > 0 && info.kvHeads > 0 && info.headDim > 0 && info.contextLength > 0)
        #expect(info.parameters > 0 && info.weightBytes > 0 && info.hasChatTemplate)
        #expect(info.device != .auto && info.dtype != .auto)
        model.close()
        #expect(model.info == info)
    }

    @Test func progress() async throws {
        let told = Guarded([LoadProgress]())
        let options = LoadOptions(device: .cpu, dtype: .float32)
        let model = try await Model.load(Demo.path, options: options) { step in told.withLock { $0.append(step) } }
        model.close()
        let steps = told.withLock { $0 }
        #expect(!steps.isEmpty && steps.last?.done == steps.last?.total)
        #expect(zip(steps, steps.dropFirst()).allSatisfy { $0.done <= $1.done })
    }

    @Test func cancelled() async {
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await Model.load(Demo.path)
        }
        await #expect(throws: CancellationError.self) { _ = try await task.value }
    }

    @Test func contextLength() async throws {
        let model = try await Model.load(Demo.path, options: LoadOptions(contextLength: 128))
        #expect(model.info.contextLength == 128)
        let answer = model.chat(Demo.story, options: Demo.endless)
        _ = try await answer.text()
        #expect(await answer.result?.finish == .context)
    }

    @Test func useAfterClose() async throws {
        let model = try await Demo.own()
        model.close()
        model.close()
        #expect(await status { _ = try model.tokenize("a") } == .closed)
        #expect(await status { _ = try model.detokenize([1]) } == .closed)
        #expect(await status { _ = try model.renderChat(Demo.paris) } == .closed)
        #expect(await status { _ = try await model.chat(Demo.paris).text() } == .closed)
    }

    @Test func closeDuringGeneration() async throws {
        let model = try await Demo.own()
        let answer = model.chat(Demo.story, options: Demo.endless)
        let end = await status {
            for try await _ in answer { model.close() }
        }
        #expect(end == .closed)
    }

    @Test func freedWithTheLastReference() async throws {
        weak var watched: Model?
        do {
            let model = try await Demo.own()
            watched = model
            _ = try await model.chat(Demo.paris).text()
        }
        // The thread that generated lets go of the model a moment after the last token.
        for _ in 0..<100 where watched != nil { try await Task.sleep(for: .milliseconds(20)) }
        #expect(watched == nil)
    }
}
