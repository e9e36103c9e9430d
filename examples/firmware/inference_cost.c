/* Prints what one inference of an exported network costs on the board: its RAM, and the instructions
   on RISC-V, the processor cycles on a Cortex-M. QEMU counts no cycles: there an instruction takes a
   nanosecond (-icount shift=0), and QEMU_CYCLE says how many nanoseconds a cycle of SysTick is. */
#include "golden.h"
#include "network.h"

#include <stdint.h>
#include <stdio.h>

#if defined(__riscv)

static void start_counter(void)
{
}

static uint32_t counted(void)
{
    uint32_t instructions;
    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, minstret\n.option pop"
                     : "=r"(instructions));
    return instructions;
}

#define UNIT "instructions"

#else

#define SYST_CSR (*(volatile uint32_t *)0xE000E010u) /* Armv7-M ARM, B3.3.3 */
#define SYST_RVR (*(volatile uint32_t *)0xE000E014u)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018u)
#define LARGEST 0xFFFFFFu

static void start_counter(void)
{
    SYST_RVR = LARGEST;
    SYST_CVR = 0;
    SYST_CSR = 5; /* on, processor clock, no interrupt */
    while (SYST_CVR == 0) { /* until it is loaded */
    }
}

static uint32_t counted(void)
{
    return LARGEST - SYST_CVR; /* it counts down */
}

#ifdef QEMU_CYCLE
#define UNIT "instructions"
#else
#define UNIT "cycles"
#endif

#endif

#ifndef QEMU_CYCLE
#define QEMU_CYCLE 1
#endif

static icsnn_state state;

int main(void)
{
    uint32_t total = 0;
    int32_t step;
    icsnn_init(&state);
    for (step = 0; step < GOLDEN_STEPS; step++) { /* a step at a time: SysTick has 24 bits */
        uint32_t before;
        start_counter();
        before = counted();
#ifdef ICSNN_EVENT_INPUT
        icsnn_step(&state, golden_events, golden_counts[step]);
#else
        icsnn_step(&state, golden_inputs);
#endif
        total += counted() - before;
    }
    printf("state: %u bytes of RAM\n", (unsigned)sizeof state);
    printf("one inference, %d steps: %lu %s\n", GOLDEN_STEPS, (unsigned long)total * QEMU_CYCLE, UNIT);
    return 0;
}
