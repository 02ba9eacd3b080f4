--- Runs the cases of one file, each in a fresh Neovim. Usage: nvim --clean -l run_cases.lua LANE BACKEND FILE [NAME]
--- NAME is a Lua pattern; only the cases it fits are run.
--- A case that fails is run a second time: real editors on a machine shared with others now and then miss a beat. One
--- that then passes is reported as flaky, with what went wrong; it is to be looked at, but it is no fault of the change
--- under test.
local lane, backend, file, only = arg[1], arg[2], arg[3], arg[4]
vim.env.LACUNA_TESTS = vim.env.LACUNA_TESTS or vim.fs.dirname(vim.fs.abspath and vim.fs.abspath(file) or file)
package.path = vim.env.LACUNA_TESTS .. '/?.lua;' .. package.path
local Editor = require('editor')

local passed, failed, flaky = 0, 0, 0

--- Runs one case in an editor of its own. Nothing when it passes, what went wrong otherwise.
local function attempt(case)
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
  return not ok and problem or nil
end

for _, case in ipairs(dofile(file)) do
  local wanted = (not case.backend or case.backend == backend) and (not only or case.name:find(only))
  if wanted then
    local problem = attempt(case)
    local again = problem and attempt(case)
    local result = not problem and 'ok  ' or not again and 'FLAKY' or 'FAIL'
    passed, failed = passed + (again and 0 or 1), failed + (again and 1 or 0)
    flaky = flaky + (problem and not again and 1 or 0)
    io.stdout:write(('%s [%s %s] %s\n'):format(result, lane, backend, case.name))
    if problem then
      io.stdout:write('     ' .. tostring(again or problem):gsub('\n', '\n     ') .. '\n')
    end
    io.stdout:flush()
  end
end
if flaky > 0 then
  io.stdout:write(('%d passed only at the second attempt\n'):format(flaky))
end
io.stdout:write(('%d passed, %d failed\n'):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
