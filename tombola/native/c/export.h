/* What the libraries show to Python; everything else is hidden (-fvisibility=hidden). */
#ifndef TOMBOLA_EXPORT_H
#define TOMBOLA_EXPORT_H

#define EXPORT __attribute__((visibility("default")))

/* Raised whenever an exported function changes its arguments or its meaning, together with ABI in tombola/compiled.py:
 * a library built from other sources is then refused instead of called. */
enum { TOMBOLA_ABI = 2 };

#endif
