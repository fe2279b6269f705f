// Measures mlxrt: bench MODEL DECODE PROMPT_LENGTH... prints one JSON object.
// mlx_lm_bench.py does the same with mlx-lm; the ids of the prompts are the same in both.
#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "mlxrt.h"

static void check(mlxrt_status status, const char *what) {
    if (status != MLXRT_STATUS_OK) {
        fprintf(stderr, "bench: %s: %s\n", what, mlxrt_error_message());
        exit(1);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// The highest memory of this process in bytes.
static uint64_t process_peak(void) {
#ifdef __linux__
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    uint64_t kib = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmHWM: %" SCNu64, &kib) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib * 1024;
#else
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss; // bytes on macOS
#endif
}

// When the first and the last token came.
struct clock {
    uint32_t tokens;
    double first, last;
};

static int32_t on_token(void *user_data, const mlxrt_token *token) {
    struct clock *clock = user_data;
    if (token->id >= 0) {
        clock->last = now();
        if (clock->tokens == 0) {
            clock->first = clock->last;
        }
        clock->tokens++;
    }
    return 0;
}

// Feeds a prompt of `length` ids and generates `decode` tokens. Prompts of different lengths have
// different beginnings, so nothing can be reused from one to the next.
static void measure(const mlxrt_model *model, size_t length, uint32_t decode, uint32_t vocab,
                    double *prefill_rate, double *decode_rate) {
    int32_t *ids = malloc(length * sizeof *ids);
    if (ids == NULL) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    for (size_t i = 0; i < length; i++) {
        ids[i] = (int32_t)((i * 7919 + length * 131 + 17) % vocab);
    }
    mlxrt_generate_options options;
    check(mlxrt_generate_options_default(&options, sizeof options), "options");
    options.max_tokens = decode;
    options.ignore_end = 1;
    struct clock clock = {0};
    double start = now();
    check(mlxrt_model_generate_ids(model, ids, length, &options, on_token, &clock, NULL),
          "generate");
    free(ids);
    if (clock.tokens != decode) {
        fprintf(stderr, "bench: %u tokens instead of %u\n", clock.tokens, decode);
        exit(1);
    }
    *prefill_rate = (double)length / (clock.first - start);
    *decode_rate = (double)(decode - 1) / (clock.last - clock.first);
}

static const char *dtype_name(int32_t dtype) {
    switch (dtype) {
    case MLXRT_DTYPE_FLOAT32: return "float32";
    case MLXRT_DTYPE_FLOAT16: return "float16";
    case MLXRT_DTYPE_BFLOAT16: return "bfloat16";
    default: return "unknown";
    }
}

int main(int argc, char **argv) {
    if (argc < 4 || atoi(argv[2]) < 2) {
        fprintf(stderr, "usage: bench MODEL DECODE PROMPT_LENGTH...\n");
        return 2;
    }
    double start = now();
    mlxrt_model *model = NULL;
    check(mlxrt_model_load(argv[1], strlen(argv[1]), NULL, &model), "load");
    double load_seconds = now() - start;

    mlxrt_model_desc desc = {.struct_size = sizeof desc};
    check(mlxrt_model_info(model, &desc), "info");
    uint32_t decode = (uint32_t)atoi(argv[2]);
    double prefill_rate, decode_rate;
    measure(model, 1, 2, desc.vocab_size, &prefill_rate, &decode_rate); // warm up

    printf("{\"engine\": \"mlxrt\", \"dtype\": \"%s\", \"load_seconds\": %.3f, \"runs\": [",
           dtype_name(desc.dtype), load_seconds);
    for (int i = 3; i < argc; i++) {
        size_t length = (size_t)atoi(argv[i]);
        measure(model, length, decode, desc.vocab_size, &prefill_rate, &decode_rate);
        printf("%s{\"prompt\": %zu, \"prefill\": %.3f, \"decode\": %.3f}", i > 3 ? ", " : "",
               length, prefill_rate, decode_rate);
    }
    uint64_t mlx_peak = 0;
    check(mlxrt_memory_peak(&mlx_peak), "memory");
    mlxrt_model_free(model);
    printf("], \"mlx_peak\": %" PRIu64 ", \"process_peak\": %" PRIu64 "}\n", mlx_peak,
           process_peak());
    return 0;
}
