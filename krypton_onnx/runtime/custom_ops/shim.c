/* ONNX Runtime calls RegisterCustomOps(options, api_base) when it loads this library; Python fills the slot
 * (registration.py). That is all the C there is: the operators themselves are described and run from Python. */
#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

EXPORT void *(*slot)(void *options, void *api_base);

EXPORT void *RegisterCustomOps(void *options, void *api_base) {
    return slot ? slot(options, api_base) : 0; /* null: success */
}
