/* Prints the names among its arguments that this processor runs. */
#include <stdio.h>

#include "tombola.c"

int main(int count, char **names)
{
    for (int i = 1; i < count; i++)
        if (tombola_cpu_runs(names[i])) puts(names[i]);
    return 0;
}
