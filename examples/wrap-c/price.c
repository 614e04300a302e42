/* A desk's own compiled program: prices European options with the formula of Black and Scholes.
 *
 * It knows nothing of any cloud: lines "id call|put spot strike rate volatility maturity" come on standard input, and
 * the result goes to standard output. Exit code 2 says that the input can never work.
 * Build it with: cc -O2 -o price price.c -lm
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

static double normal_distribution(double x) { return 0.5 * erfc(-x / sqrt(2.0)); }

int main(void) {
    char line[256], id[64], option[8];
    double spot, strike, rate, volatility, maturity;
    const char *separator = "";
    printf("{\"kernel\": \"black-scholes-c\", \"trades\": [");
    for (int number = 1; fgets(line, sizeof line, stdin); number++) {
        int read = sscanf(line, "%63s %7s %lf %lf %lf %lf %lf", id, option, &spot, &strike, &rate, &volatility, &maturity);
        int call = strcmp(option, "call") == 0;
        if (read != 7 || (!call && strcmp(option, "put") != 0) || strpbrk(id, "\"\\")) {
            fprintf(stderr, "line %d: expected id, call or put, and five numbers\n", number);
            return 2;
        }
        double sign = call ? 1.0 : -1.0, deviation = volatility * sqrt(maturity);
        double d1 = (log(spot / strike) + rate * maturity) / deviation + 0.5 * deviation;
        double price = sign * (spot * normal_distribution(sign * d1)
                               - strike * exp(-rate * maturity) * normal_distribution(sign * (d1 - deviation)));
        printf("%s{\"id\": \"%s\", \"price\": %.17g}", separator, id, price);
        separator = ", ";
    }
    printf("]}\n");
    return 0;
}
