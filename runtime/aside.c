#include "aside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int trouble(const struct aside *a, int why, struct err *err)
{
    return err_set(err, "%.400s cannot be written: %s", a->path, strerror(why));
}

int aside_open(struct aside *a, const char *path, struct err *err)
{
    struct stat st;
    a->f = NULL;
    a->temp[0] = 0;
    if (snprintf(a->path, sizeof a->path, "%s", path) >= (int)sizeof a->path)
        return err_set(err, "%.400s...: the path is too long", path);
    bool there = stat(path, &st) == 0;
    if (there && S_ISDIR(st.st_mode))
        return trouble(a, EISDIR, err);
    if (there && !S_ISREG(st.st_mode)) {
        a->f = fopen(path, "wbe");
        return a->f ? 0 : trouble(a, errno, err);
    }
    if (snprintf(a->temp, sizeof a->temp, "%s.XXXXXX", path) >= (int)sizeof a->temp)
        return err_set(err, "%.400s...: the path is too long", path);
    int fd = mkostemp(a->temp, O_CLOEXEC);
    if (fd < 0)
        return trouble(a, errno, err);
    (void)fchmod(fd, there ? st.st_mode & 0777 : 0644);
    a->f = fdopen(fd, "wb");
    if (a->f)
        return 0;
    trouble(a, errno, err);
    close(fd);
    unlink(a->temp);
    return -1;
}

int aside_keep(struct aside *a, bool durable, struct err *err)
{
    errno = 0;
    bool good = fflush(a->f) == 0 && !ferror(a->f);
    if (good && durable && a->temp[0])
        good = fsync(fileno(a->f)) == 0;
    int why = errno;
    if (fclose(a->f) != 0 && good) {
        good = false;
        why = errno;
    }
    a->f = NULL;
    if (good && a->temp[0] && rename(a->temp, a->path) != 0) {
        good = false;
        why = errno;
    }
    if (good)
        return 0;
    if (a->temp[0])
        unlink(a->temp);
    return trouble(a, why ? why : EIO, err);
}

void aside_drop(struct aside *a)
{
    if (!a->f)
        return;
    fclose(a->f);
    a->f = NULL;
    if (a->temp[0])
        unlink(a->temp);
}
