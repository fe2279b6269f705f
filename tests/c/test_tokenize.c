// Text to ids and back.
#include "fixture.h"
#include "harness.h"

#include <string.h>

enum { CAPACITY = 512 };

static size_t tokenize(const char *text, int32_t ids[CAPACITY]) {
    size_t count = 0;
    CHECK_OK(mlxrt_model_tokenize(shared_model(), text, strlen(text), 0, ids, CAPACITY, &count));
    return count;
}

static const char *detokenize(const int32_t *ids, size_t count, int32_t skip_special) {
    static char text[8 * CAPACITY];
    size_t len = 0;
    text[0] = '\0';
    if (CHECK_OK(
            mlxrt_model_detokenize(shared_model(), ids, count, skip_special, text, sizeof text - 1, &len))) {
        text[len] = '\0';
    }
    return text;
}

TEST(round_trips) {
    static const char *const texts[] = {
        "Hello",
        "What is the capital of France?",
        "  two spaces, a\ttab\nand a line  ",
        "caf\xc3\xa9 na\xc3\xafve \xc3\x85ngstr\xc3\xb6m",
        "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xe4\xbd\xa0\xe5\xa5\xbd \xe3\x81\x93",
        "\xf0\x9f\xa6\x8a and \xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7",
        "x",
        "",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t ids[CAPACITY];
        size_t count = tokenize(texts[i], ids);
        const char *back = detokenize(ids, count, 0);
        if (!CHECK(strcmp(back, texts[i]) == 0)) {
            CHECK_CONTAINS(back, texts[i]); // prints both
        }
    }
}

TEST(special_tokens_in_text_become_their_ids) {
    int32_t ids[CAPACITY];
    size_t count = tokenize("a<|im_end|>", ids);
    REQUIRE(count == 2);
    CHECK_INT(ids[1], 2);
    CHECK(strcmp(detokenize(ids, count, 0), "a<|im_end|>") == 0);
    CHECK(strcmp(detokenize(ids, count, 1), "a") == 0);
}

TEST(special_tokens_in_text_can_stay_text) {
    static const char text[] = "a<|im_end|>";
    int32_t ids[CAPACITY];
    size_t count = 0;
    CHECK_OK(mlxrt_model_tokenize(shared_model(), text, strlen(text), MLXRT_TOKENIZE_PLAIN_TEXT, ids,
                                  CAPACITY, &count));
    CHECK(count > 2);
    for (size_t i = 0; i < count; i++) {
        CHECK(ids[i] > 2);
    }
    CHECK(strcmp(detokenize(ids, count, 1), text) == 0);
    CHECK_FAILS(mlxrt_model_tokenize(shared_model(), text, strlen(text), 4, ids, CAPACITY, &count),
                BAD_ARGUMENT, "flags");
}

TEST(asking_for_the_count) {
    int32_t ids[CAPACITY];
    size_t count = 0, len = 0, expected = tokenize("The quick brown fox", ids);
    CHECK(expected > 1);
    CHECK_OK(mlxrt_model_tokenize(shared_model(), "The quick brown fox", 19, 0, NULL, 0, &count));
    CHECK_INT(count, expected);
    CHECK_OK(mlxrt_model_detokenize(shared_model(), ids, expected, 0, NULL, 0, &len));
    CHECK_INT(len, 19);
}

TEST(a_buffer_that_is_too_small_stays_untouched) {
    int32_t ids[CAPACITY] = {-7, -7};
    char text[4] = "abc";
    size_t count = 0, len = 0;
    CHECK_STATUS(mlxrt_model_tokenize(shared_model(), "The quick brown fox", 19, 0, ids, 1, &count),
                 BUFFER_TOO_SMALL);
    CHECK(count > 1);
    CHECK_INT(ids[0], -7);
    int32_t fox[CAPACITY];
    size_t fox_count = tokenize("a fox", fox);
    CHECK_STATUS(mlxrt_model_detokenize(shared_model(), fox, fox_count, 0, text, 3, &len), BUFFER_TOO_SMALL);
    CHECK_INT(len, 5);
    CHECK(strcmp(text, "abc") == 0);
}

TEST(a_buffer_that_just_fits) {
    int32_t ids[CAPACITY];
    size_t count = 0, expected = tokenize("The quick brown fox", ids);
    ids[expected] = -7;
    CHECK_OK(mlxrt_model_tokenize(shared_model(), "The quick brown fox", 19, 0, ids, expected, &count));
    CHECK_INT(count, expected);
    CHECK_INT(ids[expected], -7);
}

TEST(half_a_character_becomes_a_replacement) {
    int32_t ids[CAPACITY];
    size_t count = tokenize("\xf0\x9f\xa6\x8a", ids);
    if (count < 2) {
        SKIP("the tokenizer has a token of its own for the emoji");
    }
    const char *text = detokenize(ids, count - 1, 0);
    CHECK(is_utf8(text, strlen(text)));
    CHECK_CONTAINS(text, "\xef\xbf\xbd");
}

int main(void) {
    RUN(round_trips);
    RUN(special_tokens_in_text_become_their_ids);
    RUN(special_tokens_in_text_can_stay_text);
    RUN(asking_for_the_count);
    RUN(a_buffer_that_is_too_small_stays_untouched);
    RUN(a_buffer_that_just_fits);
    RUN(half_a_character_becomes_a_replacement);
    return end_of_tests();
}
