// Answers one question: Chat MODEL QUESTION.
import Foundation
import MLXRT

guard CommandLine.arguments.count == 3 else {
    print("usage: Chat MODEL QUESTION")
    exit(2)
}
let model = try await Model.load(CommandLine.arguments[1])
for try await token in model.chat([.user(CommandLine.arguments[2])]) {
    print(token.text, terminator: "")
    fflush(nil)
}
print()
