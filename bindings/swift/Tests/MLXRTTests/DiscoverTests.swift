import Foundation
import Testing

@testable import MLXRT

@Suite(.enabled(if: Demo.isThere)) struct DiscoverTests {
    /// A folder with a broken model and, behind a link, the demo model.
    private func makeFolder() throws -> URL {
        let files = FileManager.default
        let folder = files.temporaryDirectory.appendingPathComponent("mlxrt-\(UUID().uuidString)")
        let broken = folder.appendingPathComponent("broken")
        try files.createDirectory(at: broken, withIntermediateDirectories: true)
        try "{".write(to: broken.appendingPathComponent("config.json"), atomically: true, encoding: .utf8)
        try "{}".write(to: broken.appendingPathComponent("tokenizer.json"), atomically: true, encoding: .utf8)
        let demo = URL(fileURLWithPath: Demo.path).path  // absolute
        try files.createSymbolicLink(
            atPath: folder.appendingPathComponent("demo").path, withDestinationPath: demo)
        return folder
    }

    @Test func found() async throws {
        let folder = try makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let found = try await Model.discover(in: folder.path)
        try #require(found.count == 2)
        #expect(found[0].path.hasSuffix("broken") && found[0].problem?.status == .badModel)
        let info = try await Demo.model.info
        #expect(found[1].problem == nil && found[1].architecture == info.architecture && found[1].id.isEmpty)
        #expect(found[1].quantMode == info.quantMode && found[1].quantName == "affine")
        #expect(found[1].quantBits == info.quantBits && found[1].quantGroup == info.quantGroup)
        #expect(found[1].contextLength == info.contextLength && found[1].weightBytes > 0)
        let shallow = try await Model.discover(in: folder.path, maxDepth: 1)
        #expect(shallow == found)
    }

    @Test func missingFolder() async {
        #expect(await status { _ = try await Model.discover(in: "/nowhere/to/be/found") } == .notFound)
    }

    @Test func cancelled() async throws {
        let folder = try makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await Model.discover(in: folder.path)
        }
        await #expect(throws: CancellationError.self) { _ = try await task.value }
    }
}
