// The smallest program: loads a model, asks it something and prints the answer as it comes.
//
//     lib=$(pkg-config --variable=libdir mlxrt)
//     cc hello.c -o hello $(pkg-config --cflags --libs mlxrt) -Wl,-rpath,$lib
//     ./hello path/to/model "What is the capital of France?"

#include <mlxrt.h>

#include <stdio.h>
#include <string.h>

static int32_t print_token(void *user_data, const mlxrt_token *token) {
    (void)user_data;
    fwrite(token->text, 1, token->text_len, stdout);
    fflush(stdout);
    return 0; // anything else would end the answer
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: hello MODEL_FOLDER QUESTION\n");
        return 2;
    }
    if (mlxrt_abi_version() != MLXRT_ABI_VERSION) {
        fprintf(stderr, "compiled for another version than %s\n", mlxrt_version());
        return 1;
    }

    mlxrt_model *model = NULL;
    mlxrt_status status = mlxrt_model_load(argv[1], strlen(argv[1]), NULL, &model);
    if (status == MLXRT_STATUS_OK) {
        mlxrt_message question = {{"user", 4}, {argv[2], strlen(argv[2])}};
        status = mlxrt_model_chat(model, &question, 1, NULL, NULL, print_token, NULL, NULL);
        printf("\n");
    }
    if (status != MLXRT_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", mlxrt_status_name(status), mlxrt_error_message());
    }
    mlxrt_model_free(model);
    return status != MLXRT_STATUS_OK;
}
