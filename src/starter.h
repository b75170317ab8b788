/* SPDX-License-Identifier: Apache-2.0 */
/* starter.h - where the starter model is.  Layer: top (L6).  Threads: any. */
#ifndef RR_STARTER_H
#define RR_STARTER_H

/* The folder of the model that comes with rerankd: looked for beside the program (build tree, then
 * an installation of any prefix), in the usual prefixes, and in the current folder.  When it is in
 * none of them, the last one, so that opening it gives an error that names it.  Never NULL; valid
 * for ever. */
const char *rr_starter_dir(void);

#endif
