-- Writes the C source that builds the given files into the binary: embedded_files[], ended by a NULL path.
io.write('#include "gen/embedded.h"\n')
for i, path in ipairs(arg) do
  local f <close> = assert(io.open(path, "rb"))
  local text = f:read("a")
  io.write(("static const unsigned char file%d[] = {"):format(i))
  for k = 1, #text do
    io.write(k % 24 == 1 and "\n" or "", text:byte(k), ",")
  end
  io.write("0};\n")
end
io.write("const struct embedded_file embedded_files[] = {\n")
for i, path in ipairs(arg) do
  io.write(('    {"%s", (const char *)file%d, sizeof file%d - 1},\n'):format(path, i, i))
end
io.write("    {0, 0, 0},\n};\n")
