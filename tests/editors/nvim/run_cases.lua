--- Runs the cases of one file, each in a fresh Neovim. Usage: nvim --clean -l run_cases.lua LANE BACKEND FILE [NAME]
--- NAME is a Lua pattern; only the cases it fits are run.
local lane, backend, file, only = arg[1], arg[2], arg[3], arg[4]
vim.env.LACUNA_TESTS = vim.env.LACUNA_TESTS or vim.fs.dirname(vim.fs.abspath and vim.fs.abspath(file) or file)
package.path = vim.env.LACUNA_TESTS .. '/?.lua;' .. package.path
local Editor = require('editor')

local passed, failed = 0, 0
for _, case in ipairs(dofile(file)) do
  local wanted = (not case.backend or case.backend == backend) and (not only or case.name:find(only))
  if wanted then
    local editor ---@type table?
    local spec = vim.tbl_deep_extend(
      'force',
      { options = { ghost_text = { backend = backend } }, files = { ['main.py'] = '' }, open = 'main.py' },
      case.spec or {}
    )
    local ok, problem = xpcall(function()
      editor = Editor.start(spec)
      case.run(editor)
    end, debug.traceback)
    if editor and not ok then
      problem = problem .. '\n' .. editor:diagnosis()
    end
    if editor then
      editor:stop()
    end
    passed, failed = passed + (ok and 1 or 0), failed + (ok and 0 or 1)
    io.stdout:write(('%s [%s %s] %s\n'):format(ok and 'ok  ' or 'FAIL', lane, backend, case.name))
    if not ok then
      io.stdout:write('     ' .. tostring(problem):gsub('\n', '\n     ') .. '\n')
    end
    io.stdout:flush()
  end
end
io.stdout:write(('%d passed, %d failed\n'):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
