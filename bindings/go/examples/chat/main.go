// Command chat answers one question: chat MODEL QUESTION.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: chat MODEL QUESTION")
	}
	if err := chat(context.Background(), os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func chat(ctx context.Context, path, question string) error {
	model, err := mlxrt.Load(ctx, path)
	if err != nil {
		return err
	}
	defer model.Close()
	for token := range model.Chat(ctx, []mlxrt.Message{{Role: "user", Content: question}}) {
		fmt.Print(token.Text)
	}
	fmt.Println()
	return model.Err()
}
