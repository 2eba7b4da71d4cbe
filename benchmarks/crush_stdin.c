/* Runs a battery of TestU01 over 32-bit words that stand on the standard input.
 *
 *     cc -O2 crush_stdin.c -o crush_stdin -ltestu01 -ltestu01probdist -ltestu01mylib -lm
 *     python random_bits.py --stream keys | ./crush_stdin Crush
 *     python random_bits.py --stream keys --seed 1 | ./crush_stdin Crush 94
 *
 * A number after the battery's name says to run that one of its tests alone.
 * TestU01 looks at the upper bits of a word above all; give the words with `--bits reversed` as
 * well. An input that ends before the battery does is an error (exit status 2).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <testu01/bbattery.h>
#include <testu01/swrite.h>
#include <testu01/unif01.h>

static uint32_t words[1 << 16];
static size_t used, held;
static unsigned long long taken;

static unsigned int next_word(void) {
    if (used == held) {
        held = fread(words, sizeof *words, sizeof words / sizeof *words, stdin);
        used = 0;
        if (held == 0) {
            fflush(stdout);
            fprintf(stderr, "crush_stdin: the input ended after %llu words\n", taken);
            exit(2);
        }
        taken += held;
    }
    return words[used++];
}

int main(int count, char **arguments) {
    const char *battery = count == 2 || count == 3 ? arguments[1] : "";
    int alone = count == 3 ? atoi(arguments[2]) : 0;
    int times[1 + 256] = {0};
    if (count == 3 && (alone < 1 || alone > 106))
        battery = "";
    times[alone] = 1;
    unif01_Gen *source = unif01_CreateExternGenBits("stdin", next_word);
    swrite_Basic = FALSE; /* the summary alone */
    if (strcmp(battery, "SmallCrush") == 0)
        alone ? bbattery_RepeatSmallCrush(source, times) : bbattery_SmallCrush(source);
    else if (strcmp(battery, "Crush") == 0)
        alone ? bbattery_RepeatCrush(source, times) : bbattery_Crush(source);
    else if (strcmp(battery, "BigCrush") == 0)
        alone ? bbattery_RepeatBigCrush(source, times) : bbattery_BigCrush(source);
    else {
        fprintf(stderr, "usage: crush_stdin SmallCrush | Crush | BigCrush [number of a test]\n");
        return 1;
    }
    printf("%llu words were taken from the input\n", taken - (held - used));
    unif01_DeleteExternGenBits(source);
    return 0;
}
