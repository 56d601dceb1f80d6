/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* bcc brings its own copy and includes it first. */
