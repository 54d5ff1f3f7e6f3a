/* SPDX-License-Identifier: MIT */
/*
 * What calls.py measures against: process_madvise(2) from a CPython extension
 * as one writes it by hand, nothing checked, and from a loop in C.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../csrc/syscall_nr.h"

/* range(pidfd, address, length, advice): one unchecked call */
static PyObject *
range(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    int pidfd = (int)PyLong_AsLong(args[0]);
    struct iovec iov = {(void *)PyLong_AsUnsignedLong(args[1]),
                        PyLong_AsUnsignedLong(args[2])};
    int advice = (int)PyLong_AsLong(args[3]);
    long advised;

    (void)module;
    (void)nargs;
    Py_BEGIN_ALLOW_THREADS
    advised = syscall(PMADVISE_NR_PROCESS_MADVISE, pidfd, &iov, 1UL, advice, 0U);
    Py_END_ALLOW_THREADS
    if (advised < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong(advised);
}

/* loop(pidfd, buffer of iovecs, advice, rounds): seconds for all rounds in C */
static PyObject *
loop(PyObject *module, PyObject *args)
{
    int pidfd, advice;
    long rounds, advised = 0;
    Py_buffer iov;
    struct timespec begin, end;

    (void)module;
    if (!PyArg_ParseTuple(args, "iy*il", &pidfd, &iov, &advice, &rounds))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (rounds-- > 0 && advised >= 0)
        advised = syscall(PMADVISE_NR_PROCESS_MADVISE, pidfd, iov.buf,
                          (size_t)iov.len / sizeof(struct iovec), advice, 0U);
    clock_gettime(CLOCK_MONOTONIC, &end);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&iov);
    if (advised < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyFloat_FromDouble((double)(end.tv_sec - begin.tv_sec) +
                              1e-9 * (double)(end.tv_nsec - begin.tv_nsec));
}

static PyMethodDef methods[] = {
    {"range", (PyCFunction)(void (*)(void))range, METH_FASTCALL, NULL},
    {"loop", loop, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "unchecked", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit_unchecked(void)
{
    return PyModule_Create(&definition);
}
