// SPDX-License-Identifier: Apache-2.0
/**
 * The benchmarks, each with its rivals in the same run.
 *
 * <p>One jar holds them and all that they need, ND4J's machine code, LMDB and RocksDB included:
 *
 * <pre>mvn -Pbenchmarks -DskipTests package -pl engram-bench -am
 * java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -jar engram-bench/target/benchmarks.jar Hash</pre>
 *
 * <p>The arguments are JMH's: patterns of names ({@code -l} lists them), {@code -p name=value,...}
 * for parameters, {@code -f} for forks, {@code -t} for threads, {@code -rf json -rff FILE} for
 * results, {@code -prof gc} for garbage. Options of the JVM on the command line reach the forks;
 * {@code -jvmArgsAppend} adds more. Each class says in its documentation how to run it, what it
 * compares and what the ratios mean. What is there without options takes one to four minutes a
 * class.
 *
 * <p><b>Rivals.</b> C is compiled by gcc when it is first needed ({@code -Dengram.cc} names another
 * compiler that takes its options). NumPy and PyTorch run in a process of their own, by the
 * interpreter that {@code -Dengram.python} or the environment's {@code ENGRAM_PYTHON} names, else
 * by {@code python3}; it loops by itself, so that the pipe between the two is not measured. What a
 * rival computes is compared with the library's result first, and one that computes something else
 * fails. Absent rivals are named at the start and left out, as {@link
 * io.engram.bench.jmh.rival.Rivals#available} tells.
 *
 * <p><b>Order.</b> JMH runs all forks of one benchmark before the next, so that a change of the
 * machine's load looks like a difference. {@link io.engram.bench.suite.Suite}, which {@code engram
 * bench run} calls, runs one fork of each after the other, every other round backwards, and states
 * the noise: ratios are taken from there.
 *
 * <p><b>What is measured on.</b> Ids of a real text where repetition matters; uniform ids where
 * rows have to be cold, and then from tables of which every page is written. Beside each score
 * stand the resident memory of the process and how much of it lies in huge pages.
 */
package io.engram.bench.jmh;
