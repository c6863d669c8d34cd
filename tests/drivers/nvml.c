/* A driver library as NVIDIA's client sees it: what FAKE_GPUS says, one device after another with ; between them.
 *
 * NAME,TOTAL,USED   a card; bytes, and -1 where the driver does not say (memory shared with the host)
 * ^NAME,TOTAL,USED  a MIG part of the card before it, whose MIG mode is then on
 * !                 a card that has fallen off the bus
 *
 * FAKE_INIT is what starting it returns (18: driver and library differ).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS, NOT_SUPPORTED = 3, NOT_FOUND = 6, GPU_IS_LOST = 15, MOST = 16 };

struct device { char name[96]; long long total, used; int card, part; };
static struct device devices[MOST];
static int count, cards;

int nvmlInitWithFlags(unsigned flags)
{
    const char *code = getenv("FAKE_INIT"), *said = getenv("FAKE_GPUS");
    char *text = strdup(said ? said : "");
    (void)flags;
    count = cards = 0;
    for (char *one = strtok(text, ";"); one && count < MOST; one = strtok(NULL, ";")) {
        struct device *it = &devices[count++];
        it->part = *one == '^';
        if (!it->part) cards++;
        it->card = cards - 1;
        it->total = it->used = 0;
        sscanf(one + it->part, "%95[^,],%lld,%lld", it->name, &it->total, &it->used);
    }
    free(text);
    return code ? atoi(code) : SUCCESS;
}

static struct device *at(void *handle) { return &devices[(long)handle - 1]; }

static int find(int card, int part, void **handle)
{
    for (int n = 0, seen = 0; n < count; n++)
        if (devices[n].card == card && devices[n].part == (part >= 0) && (part < 0 || seen++ == part)) {
            if (devices[n].name[0] == '!') return GPU_IS_LOST;
            *handle = (void *)(long)(n + 1);
            return SUCCESS;
        }
    return NOT_FOUND;
}

int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == 18 ? "Driver/library version mismatch" : code == GPU_IS_LOST ? "GPU is lost" : "error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "550.54.15"); return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *number) { *number = cards; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned card, void **handle) { return find(card, -1, handle); }
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) { snprintf(text, size, "GPU-%d00", at(handle)->card); return SUCCESS; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { snprintf(text, size, "%s", at(handle)->name); return SUCCESS; }

int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory)
{
    struct device *it = at(handle);
    if (it->total < 0) return NOT_SUPPORTED;
    memory[0] = it->total, memory[1] = it->total - it->used, memory[2] = it->used;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending)
{
    void *part;
    if (!strstr(at(handle)->name, "A100")) return NOT_SUPPORTED;
    *current = *pending = find(at(handle)->card, 0, &part) == SUCCESS;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *number) { (void)handle; *number = 7; return SUCCESS; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned part, void **found) { return find(at(handle)->card, part, found); }
