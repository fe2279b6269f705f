// Loads a model, puts questions to it and prints the answers token by token as they come, then what
// it took: `make demo` runs this on the small model in demo/model.
//
//     demo MODEL_FOLDER [QUESTION]...

#include <mlxrt.h>

#include <stdio.h>
#include <string.h>

// What all questions together took.
typedef struct totals {
    unsigned long prompt_tokens;
    unsigned long generated_tokens;
    unsigned long decoded_tokens; // a question's first token belongs to its prefill
    double prefill_seconds;
    double decode_seconds;
} totals;

static const double MEBIBYTE = 1024.0 * 1024.0;

static int fail(const char *what, mlxrt_status status) {
    fprintf(stderr, "%s: %s: %s\n", what, mlxrt_status_name(status), mlxrt_error_message());
    return 1;
}

static int32_t show_progress(void *user_data, uint64_t done, uint64_t total) {
    (void)user_data;
    fprintf(stderr, "\rloading %3.0f%% of %.1f MiB", total ? 100.0 * (double)done / (double)total : 100.0,
            (double)total / MEBIBYTE);
    if (done == total) {
        fprintf(stderr, "\n");
    }
    return 0;
}

static int32_t print_token(void *user_data, const mlxrt_token *token) {
    (void)user_data;
    fwrite(token->text, 1, token->text_len, stdout);
    fflush(stdout);
    return 0;
}

static void describe(const mlxrt_model *model) {
    mlxrt_model_desc info = {.struct_size = sizeof info};
    if (mlxrt_model_info(model, &info) != MLXRT_STATUS_OK) {
        return;
    }
    printf("%s, %.1f million parameters", info.architecture, (double)info.parameters / 1e6);
    if (info.quant_bits != 0) {
        printf(" in %u bits", info.quant_bits);
    }
    printf(", context of %u tokens, on the %s\n", info.context_length,
           info.device == MLXRT_DEVICE_GPU ? "GPU" : "CPU");
}

static mlxrt_status ask(const mlxrt_model *model, const char *question, totals *sum) {
    const mlxrt_message message = {{"user", 4}, {question, strlen(question)}};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    printf("\n> %s\n", question);
    mlxrt_status status = mlxrt_model_chat(model, &message, 1, NULL, NULL, print_token, NULL, &result);
    printf("\n");
    if (status == MLXRT_STATUS_OK) {
        sum->prompt_tokens += result.prompt_tokens;
        sum->generated_tokens += result.generated_tokens;
        sum->decoded_tokens += result.generated_tokens > 0 ? result.generated_tokens - 1 : 0;
        sum->prefill_seconds += result.prefill_seconds;
        sum->decode_seconds += result.decode_seconds;
    }
    return status;
}

static double rate(unsigned long tokens, double seconds) {
    return seconds > 0 ? (double)tokens / seconds : 0;
}

static void print_metrics(const totals *sum) {
    uint64_t peak = 0;
    mlxrt_memory_peak(&peak);
    printf("\nprompt %lu tokens at %.0f tok/s, generated %lu tokens at %.0f tok/s, peak memory %.1f MiB\n",
           sum->prompt_tokens, rate(sum->prompt_tokens, sum->prefill_seconds), sum->generated_tokens,
           rate(sum->decoded_tokens, sum->decode_seconds), (double)peak / MEBIBYTE);
}

int main(int argc, char **argv) {
    static const char *const standard[] = {"What is the capital of France?", "What is 17 + 25?",
                                           "Tell me a short story about a fox."};
    const char *const *questions = argc > 2 ? (const char *const *)argv + 2 : standard;
    int count = argc > 2 ? argc - 2 : (int)(sizeof standard / sizeof *standard);
    if (argc < 2) {
        fprintf(stderr, "usage: demo MODEL_FOLDER [QUESTION]...\n");
        return 2;
    }
    if (mlxrt_abi_version() != MLXRT_ABI_VERSION) {
        fprintf(stderr, "demo: compiled for another version than mlxrt %s\n", mlxrt_version());
        return 1;
    }
    printf("%s\n", mlxrt_build_info());
    fflush(stdout); // before the progress, which goes to stderr

    mlxrt_model *model = NULL;
    mlxrt_load_options options = {.struct_size = sizeof options, .progress = show_progress};
    mlxrt_status status = mlxrt_model_load(argv[1], strlen(argv[1]), &options, &model);
    if (status != MLXRT_STATUS_OK) {
        return fail(argv[1], status);
    }
    describe(model);
    totals sum = {0};
    for (int i = 0; i < count && status == MLXRT_STATUS_OK; i++) {
        status = ask(model, questions[i], &sum);
    }
    mlxrt_model_free(model);
    if (status != MLXRT_STATUS_OK) {
        return fail("demo", status);
    }
    print_metrics(&sum);
    return 0;
}
