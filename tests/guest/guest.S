/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* The guest: a boot-sector program that never stops writing.
 *
 * It needs a PC BIOS with int 13h extensions (SeaBIOS has them for virtio-blk) and nothing else.
 * The boot sector loads the few sectors behind it and then, for ever: counts, fills a block, writes
 * it to the next disk, records the write as done, fills a page of RAM beyond 1 MiB in the same
 * manner, and records that.  What goes where, and how a sector looks, is said in layout.h.
 *
 * Nothing is skipped.  A write that fails is counted in the status block, told on the serial port,
 * and tried again until it succeeds.  The counter starts at 1 with every boot, so a guest that was
 * reset, instead of having gone on, is noticed at once.
 *
 * The disks are the BIOS's, 0x80 being vda.  SeaBIOS numbers virtio disks by bootindex and then by
 * PCI address; with QEMU's "-boot strict=on" it leaves out those without a bootindex.
 *
 * COM1 says "bistream guest: disks N" when the first write is about to happen.
 *
 * Real mode with all segments 0.  To reach the pages beyond 1 MiB the limits of DS and ES are
 * raised by a short visit to protected mode, each time anew: the BIOS puts them back whenever it
 * visits protected mode itself.
 *
 * Memory: 0x500 stack up to 0x7000, status block, 0x7c00 program, 0x10000 block, 2 MiB pages. */

#include "layout.h"

#define STACK STATUS_ADDRESS
#define BLOCK_SEGMENT 0x1000
#define STATUS(field) (STATUS_ADDRESS + STATUS_##field)
#define BIOS_DISK_COUNT 0x475
#define COM1 0x3f8
#define RETRY_DELAY 50000 /* microseconds */

    .code16
    .text
    .globl _start
_start:
    jmp boot

    .org PARAMS_OFFSET
params:
    .long PARAMS_MAGIC_LOW, PARAMS_MAGIC_HIGH
disks:
    .long 1
window:
    .long 2048
slots:
    .long 1024
ram_pages:
    .long 256
pause:
    .long 0

boot:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $STACK, %sp
    ljmp $0, $1f
1:
    sti
    cld
    movw $load_request, %si
    movb $0x80, %dl
    movb $0x42, %ah
    int $0x13
    jnc main
    movw $text_load_failed, %si
    call print
halt:
    hlt
    jmp halt

/* Prints the string at SI on COM1. */
print:
    lodsb
    testb %al, %al
    jz 1f
    call print_char
    jmp print
1:
    ret

print_char:
    pushw %dx
    pushw %ax
    movw $COM1 + 5, %dx
1:
    inb %dx, %al
    testb $0x20, %al /* the transmitter is empty */
    jz 1b
    popw %ax
    movw $COM1, %dx
    outb %al, %dx
    popw %dx
    ret

load_request:
    .word 16, GUEST_PROGRAM_SECTORS - 1
    .word GUEST_LOAD_ADDRESS + GUEST_SECTOR, 0
    .quad 1
text_load_failed:
    .asciz "bistream guest: cannot load itself from disk 0x80\r\n"

    .org GUEST_SECTOR - 2
    .word 0xaa55

/* Here begins what the boot sector has loaded. */

main:
    movw $0x2401, %ax /* A20 on */
    int $0x15
    call clear_status

    movzbl BIOS_DISK_COUNT, %eax
    cmpl disks, %eax
    jb disks_missing
    movw $text_ready, %si
    call print
    movl disks, %eax
    call print_decimal
    movw $text_newline, %si
    call print

next:
    call advance
    movl disk, %edx
    movl slot, %ebx
    shll $3, %ebx
    addl window, %ebx
    movl %ebx, write_sector
    call fill_block
    call write_block
    movl STATUS(STARTED), %eax
    movl STATUS(STARTED) + 4, %ecx
    movl %eax, STATUS(WRITTEN)
    movl %ecx, STATUS(WRITTEN) + 4

    movl $RAM_DISK, %edx
    movl page, %ebx
    shll $3, %ebx
    call fill_block
    call copy_to_page
    movl STATUS(STARTED), %eax
    movl STATUS(STARTED) + 4, %ecx
    movl %eax, STATUS(FILLED)
    movl %ecx, STATUS(FILLED) + 4

    movl pause, %eax
    call wait_microseconds
    jmp next

disks_missing:
    pushl %eax
    movw $text_missing, %si
    call print
    popl %eax
    call print_decimal
    movw $text_newline, %si
    call print
    jmp halt

/* Zeroes the status block, and signs it last. */
clear_status:
    movw $STATUS_ADDRESS, %di
    movw $STATUS_PARAMS / 2, %cx
    xorw %ax, %ax
    rep stosw
    movw $params, %si
    movw $PARAMS_SIZE / 2, %cx
    rep movsw
    movl $STATUS_MAGIC_HIGH, STATUS_ADDRESS + 4
    movl $STATUS_MAGIC_LOW, STATUS_ADDRESS
    ret

/* Counts, and moves on to the next disk, slot and page. */
advance:
    addl $1, STATUS(STARTED)
    adcl $0, STATUS(STARTED) + 4

    incl page
    movl ram_pages, %eax
    cmpl %eax, page
    jb 1f
    movl $0, page
1:
    incl disk
    movl disks, %eax
    cmpl %eax, disk
    jb 2f
    movl $0, disk
    incl slot
    movl slots, %eax
    cmpl %eax, slot
    jb 2f
    movl $0, slot
2:
    ret

/* Fills the block with the counter for disk EDX, sectors EBX and following. */
fill_block:
    pushw %es
    movw $BLOCK_SEGMENT, %ax
    movw %ax, %es
    xorw %di, %di
    movw $GUEST_BLOCK_SECTORS, %bp
1:
    movl $SECTOR_MAGIC_LOW, %eax
    stosl
    movl $SECTOR_MAGIC_HIGH, %eax
    stosl
    movl STATUS(STARTED), %eax
    stosl
    imull $PATTERN_SPREAD, %eax, %esi
    movl STATUS(STARTED) + 4, %eax
    stosl
    xorl %eax, %esi
    movl %edx, %eax
    stosl
    shll $24, %eax
    xorl %eax, %esi
    movl %ebx, %eax
    stosl
    xorl %esi, %eax
    movw $SECTOR_PATTERN_WORDS, %cx
2:
    imull $PATTERN_STEP, %eax, %eax
    addl $PATTERN_ADD, %eax
    stosl
    loop 2b
    incl %ebx
    decw %bp
    jnz 1b
    popw %es
    ret

/* Writes the block to the current disk, for as long as it takes. */
write_block:
    movw $GUEST_BLOCK_SECTORS, write_count /* the BIOS puts what it wrote here */
    movw $write_request, %si
    movb disk, %dl
    addb $0x80, %dl
    movw $0x4300, %ax
    int $0x13
    jc 1f
    movb $0xff, %ah /* not a status of the BIOS: a short write */
    cmpw $GUEST_BLOCK_SECTORS, write_count
    jne 1f
    ret
1:
    movb %ah, STATUS(LAST_ERROR)
    movb disk, %al
    movb %al, STATUS(LAST_ERROR) + 1
    addl $1, STATUS(ERRORS)
    adcl $0, STATUS(ERRORS) + 4
    call print_error
    movl $RETRY_DELAY, %eax
    call wait_microseconds
    jmp write_block

print_error:
    movw $text_write, %si
    call print
    movl STATUS(STARTED) + 4, %eax
    call print_hex
    movl STATUS(STARTED), %eax
    call print_hex
    movw $text_disk, %si
    call print
    movl disk, %eax
    call print_decimal
    movw $text_failed, %si
    call print
    movzbl STATUS(LAST_ERROR), %eax
    call print_hex
    movw $text_again, %si
    jmp print

/* Copies the block to the current page. */
copy_to_page:
    cli
    lgdtl descriptor_table
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    movw $8, %bx
    movw %bx, %ds
    movw %bx, %es
    andb $0xfe, %al
    movl %eax, %cr0
    xorw %bx, %bx
    movw %bx, %ds
    movw %bx, %es
    movl $BLOCK_SEGMENT * 16, %esi
    movl page, %edi
    shll $12, %edi
    addl $RAM_ADDRESS, %edi
    movl $GUEST_BLOCK / 4, %ecx
    addr32 rep movsl
    sti
    ret

/* Waits for EAX microseconds, rounded up to the clock's period of about a millisecond. */
wait_microseconds:
    testl %eax, %eax
    jz 1f
    movw %ax, %dx
    shrl $16, %eax
    movw %ax, %cx
    movb $0x86, %ah
    int $0x15
1:
    ret

print_hex:
    movw $8, %cx
1:
    roll $4, %eax
    pushl %eax
    andb $15, %al
    cmpb $10, %al
    sbbb $0x69, %al
    das /* 0-15 has become '0'-'9', 'A'-'F' */
    call print_char
    popl %eax
    loop 1b
    ret

print_decimal:
    movl $10, %ebx
    xorw %cx, %cx
1:
    xorl %edx, %edx
    divl %ebx
    pushw %dx
    incw %cx
    testl %eax, %eax
    jnz 1b
2:
    popw %ax
    addb $'0', %al
    call print_char
    loop 2b
    ret

text_ready:
    .asciz "bistream guest: disks "
text_missing:
    .asciz "bistream guest: too few disks, the BIOS has only "
text_write:
    .asciz "bistream guest: write 0x"
text_disk:
    .asciz " to disk "
text_failed:
    .asciz " failed, status 0x"
text_again:
    .ascii ", trying again"
text_newline:
    .asciz "\r\n"

    .balign 8
descriptors: /* none, and data: base 0, limit 4 GiB */
    .quad 0, 0x00cf92000000ffff
descriptor_table:
    .word . - descriptors - 1
    .long descriptors

    .balign 4
write_request:
    .word 16
write_count:
    .word GUEST_BLOCK_SECTORS
    .word 0, BLOCK_SEGMENT
write_sector:
    .quad 0

disk:
    .long 0
slot:
    .long 0
page:
    .long 0

    .org GUEST_PROGRAM_SIZE
