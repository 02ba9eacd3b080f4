--- `:checkhealth lacuna`: what is needed, what is there, and what to do about the difference.
local M = {}

local VERSION_TIMEOUT_MS = 5000
local STATUS_TIMEOUT_MS = 2000

local health = vim.health

local function check_editor()
  health.start('Lacuna: editor')
  local version = tostring(vim.version())
  if vim.fn.has('nvim-0.10') == 0 then
    health.error('Neovim ' .. version .. ' is too old', { 'Install Neovim 0.10 or later' })
    return
  end
  health.ok('Neovim ' .. version)
  local config = require('lacuna.config')
  local backend = config.backend()
  if config.current.ghost_text.backend == 'native' and backend ~= 'native' then
    health.warn("ghost_text.backend is 'native', which needs Neovim 0.12; the plugin's own extmarks are used", {
      "Set ghost_text.backend = 'auto'",
    })
  else
    health.ok("ghost text is shown by: " .. (backend == 'native' and 'vim.lsp.inline_completion' or 'extmarks'))
  end
  if #config.problems == 0 then
    health.ok('the options are understood')
  end
  for _, problem in ipairs(config.problems) do
    health.warn(problem, { 'See :help lacuna-options' })
  end
end

---@return boolean found
local function check_command()
  health.start('Lacuna: server command')
  local command = require('lacuna.config').command()
  local shown = table.concat(command, ' ')
  local path = vim.fn.exepath(command[1])
  if path == '' then
    health.error(("'%s' was not found"):format(command[1]), {
      'Build the server in a checkout of Lacuna: cargo install --path lsp',
      'or say where it is: cmd = { "/path/to/lacuna", "lsp" }',
      'Neovim looks in this PATH: ' .. (vim.env.PATH or ''),
    })
    return false
  end
  health.ok(('%s (%s)'):format(shown, path))
  local ran, result = pcall(function()
    return vim.system({ path, '--version' }, { text = true, timeout = VERSION_TIMEOUT_MS }):wait()
  end)
  if ran and result.code == 0 then
    health.info('version: ' .. vim.trim(result.stdout))
  else
    health.warn(("'%s --version' failed: %s"):format(path, ran and vim.trim(result.stderr or '') or tostring(result)))
  end
  health.info(('model, processor and GPU are checked by: %s doctor'):format(command[1]))
  return true
end

---@param client vim.lsp.Client
local function check_status(client)
  local answer ---@type table?
  require('lacuna.client').execute('lacuna.status', {}, function(err, result)
    answer = { err = err, result = result }
  end)
  vim.wait(STATUS_TIMEOUT_MS, function()
    return answer ~= nil
  end, 10)
  if not answer then
    health.warn(('the server did not answer within %d ms'):format(STATUS_TIMEOUT_MS), { ':Lacuna log', ':Lacuna! restart' })
  elseif answer.err then
    health.warn('lacuna.status: ' .. (answer.err.message or vim.inspect(answer.err)), { ':Lacuna log' })
  else
    health.ok('the server answers')
    health.info(table.concat(require('lacuna.report').lines(answer.result), '\n'))
  end
  local bufnr = next(client.attached_buffers)
  if bufnr and not require('lacuna.client').offers_inline_completion(client, bufnr) then
    health.error('the server does not offer inline completion', { 'Is `cmd` the right server?' })
  end
end

local function check_server()
  health.start('Lacuna: server')
  local client = require('lacuna.client').ready()
  local status = require('lacuna.status')
  if not require('lacuna.config').current.enabled then
    health.info('Lacuna is off; :Lacuna enable turns it on')
  elseif status.failure then
    health.error(status.failure, { ':Lacuna log', ':Lacuna! restart' })
  elseif not client then
    health.info('not running: it is started for the first file that is served')
  else
    local folders = vim.tbl_map(function(folder)
      return folder.name
    end, client.workspace_folders or {})
    health.ok(('running for %d buffers, positions in %s'):format(vim.tbl_count(client.attached_buffers), client.offset_encoding))
    health.info('workspace folders: ' .. (#folders > 0 and table.concat(folders, ', ') or '(none: files are served alone)'))
    check_status(client)
  end
end

local function check_buffers()
  health.start('Lacuna: buffers and keys')
  for _, bufnr in ipairs(vim.api.nvim_list_bufs()) do
    if vim.api.nvim_buf_is_loaded(bufnr) and vim.bo[bufnr].buflisted then
      local refusal = require('lacuna.buffer').refusal(bufnr)
      local name = vim.fn.fnamemodify(vim.api.nvim_buf_get_name(bufnr), ':~:.')
      health.info(('%s: %s'):format(name == '' and '[No Name]' or name, refusal and ('not served, ' .. refusal) or 'served'))
    end
  end
  local served = 0
  for action, key in pairs(require('lacuna.config').current.keymap) do
    if type(key) == 'string' and key ~= '' then
      served = served + 1
      health.info(('%s: %s'):format(key, action:gsub('_', ' ')))
    end
  end
  if served == 0 then
    health.info('no keys are mapped by the plugin; the <Plug> keys are in :help lacuna-keys')
  end
  local others = vim.tbl_filter(function(client)
    return client.name ~= 'lacuna' and client.server_capabilities.inlineCompletionProvider ~= nil
  end, vim.lsp.get_clients())
  for _, other in ipairs(others) do
    health.warn(("the server '%s' offers inline completion as well: two ghost texts may compete"):format(other.name))
  end
end

function M.check()
  require('lacuna').start()
  check_editor()
  if check_command() then
    check_server()
  end
  check_buffers()
end

return M
