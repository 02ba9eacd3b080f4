--- `:Lacuna` and its subcommands.
local M = {}

---@param text string
---@param level? integer
local function notify(text, level)
  vim.notify('lacuna: ' .. text, level or vim.log.levels.INFO)
end

--- Asks the server and shows what it answers.
---@param command string
---@param arguments any[]
---@param title string
local function ask(command, arguments, title)
  local sent = require('lacuna.client').execute(command, arguments, function(err, result)
    if err then
      notify(('%s: %s'):format(command, err.message or vim.inspect(err)), vim.log.levels.ERROR)
    elseif result == nil or result == vim.NIL then
      notify(('%s: nothing to show yet'):format(title))
    else
      require('lacuna.report').show(title, require('lacuna.report').lines(result))
    end
  end)
  if not sent then
    local refusal = require('lacuna.buffer').refusal(vim.api.nvim_get_current_buf())
    notify(
      'the server is not running' .. (refusal and ('; this buffer is not served: ' .. refusal) or '')
        .. '; see :checkhealth lacuna',
      vim.log.levels.WARN
    )
  end
end

--- The buffer a switch is for; nil is all.
---@param argument string?
---@return integer?
local function scope(argument)
  return argument == 'buffer' and vim.api.nvim_get_current_buf() or nil
end

---@param on boolean
---@param argument string?
local function switch(on, argument)
  local bufnr = scope(argument)
  require('lacuna').enable(on, bufnr)
  notify((on and 'on' or 'off') .. (bufnr and ' for this buffer' or ''))
end

---@type table<string, { arguments?: string[], run: fun(argument: string?, bang: boolean) }>
local SUBCOMMANDS = {
  status = {
    run = function()
      ask('lacuna.status', {}, 'status')
    end,
  },
  explain = {
    run = function()
      ask('lacuna.explain', {}, 'explain')
    end,
  },
  restart = {
    run = function(_, bang)
      local client = require('lacuna.client')
      if bang or not client.ready() then
        client.stop(function()
          require('lacuna').start()
          client.reconfigure()
          require('lacuna').attach_all()
          notify('the server is starting')
        end)
        return
      end
      client.execute('lacuna.restartEngine', {}, function(err)
        if err then
          notify('restart: ' .. (err.message or vim.inspect(err)), vim.log.levels.ERROR)
        else
          notify('the engine has been restarted')
        end
      end)
    end,
  },
  log = {
    run = function()
      local command = require('lacuna.config').command()
      require('lacuna.report').show('log', require('lacuna.log').lines(command[1]))
      vim.cmd('normal! G')
    end,
  },
  enable = {
    arguments = { 'buffer' },
    run = function(argument)
      switch(true, argument)
    end,
  },
  disable = {
    arguments = { 'buffer' },
    run = function(argument)
      switch(false, argument)
    end,
  },
  toggle = {
    arguments = { 'buffer' },
    run = function(argument)
      local bufnr = scope(argument)
      local on
      if bufnr then
        on = vim.b[bufnr].lacuna_enabled ~= false
      else
        on = require('lacuna').is_enabled()
      end
      switch(not on, argument)
    end,
  },
}

---@return string[]
local function names()
  local sorted = vim.tbl_keys(SUBCOMMANDS)
  table.sort(sorted)
  return sorted
end

---@param given table of nvim_create_user_command()
function M.run(given)
  local name, argument = given.fargs[1] or 'status', given.fargs[2]
  local subcommand = SUBCOMMANDS[name]
  if not subcommand then
    notify(("no subcommand '%s'; there are: %s"):format(name, table.concat(names(), ', ')), vim.log.levels.ERROR)
    return
  end
  if argument and not vim.list_contains(subcommand.arguments or {}, argument) then
    notify(("':Lacuna %s' does not take '%s'"):format(name, argument), vim.log.levels.ERROR)
    return
  end
  require('lacuna').start()
  subcommand.run(argument, given.bang)
end

---@param lead string
---@param line string
---@return string[]
function M.complete(lead, line)
  local words = vim.split(vim.trim(line), '%s+')
  local choices = names()
  if #words > 2 or (#words == 2 and lead == '') then
    local subcommand = SUBCOMMANDS[words[2]]
    choices = subcommand and subcommand.arguments or {}
  end
  return vim.tbl_filter(function(choice)
    return vim.startswith(choice, lead)
  end, choices)
end

return M
