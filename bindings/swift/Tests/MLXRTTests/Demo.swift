import Foundation
import MLXRT

/// The demo model: a small one that knows true answers.
enum Demo {
    /// `$MLXRT_TEST_MODEL`, or demo/model of the repository.
    static let path: String = {
        if let path = ProcessInfo.processInfo.environment["MLXRT_TEST_MODEL"] { return path }
        var folder = URL(fileURLWithPath: #filePath)
        for _ in 0..<5 { folder.deleteLastPathComponent() }  // bindings/swift/Tests/MLXRTTests/Demo.swift
        return folder.appendingPathComponent("demo/model").path
    }()

    /// Whether it is there; says so once if not.
    static let isThere: Bool = {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        let isThere = files.contains { $0.hasSuffix(".safetensors") }
        if !isThere {
            print("skipped: bindings/swift: no demo model in \(path) (MLXRT_TEST_MODEL names another folder)")
        }
        return isThere
    }()

    private static let shared = Task { try await Model.load(path) }

    /// A model that the tests share; it stays open.
    static var model: Model { get async throws { try await shared.value } }

    /// A model that the test may close.
    static func own() async throws -> Model { try await Model.load(path) }

    struct Question: Codable, Sendable {
        let kind: String
        let question: String
        let expect: String
    }

    /// A few questions of each kind that has one right answer: the library's own tests ask them all.
    static let questions: [Question] = {
        let file = URL(fileURLWithPath: path).deletingLastPathComponent().appendingPathComponent("questions.json")
        guard let data = try? Data(contentsOf: file) else {
            print("skipped: bindings/swift questions: no \(file.path)")
            return []
        }
        let all = try! JSONDecoder().decode([Question].self, from: data)
        return Dictionary(grouping: all.filter { $0.kind != "stories" }, by: \.kind).values.flatMap { $0.prefix(3) }
    }()

    static let paris = [Message.user("What is the capital of France?")]

    /// Makes the model talk for a good while.
    static let story = [Message.user("Tell me a story about a dragon.")]

    /// Makes it talk until it is stopped.
    static let endless = GenerateOptions {
        $0.ignoreEnd = true
        $0.maxTokens = 900
    }
}

/// The status of the error that the body throws, if it throws one.
func status(_ body: () async throws -> Void) async -> MLXRTError.Status? {
    do {
        try await body()
        return nil
    } catch {
        return (error as? MLXRTError)?.status
    }
}
